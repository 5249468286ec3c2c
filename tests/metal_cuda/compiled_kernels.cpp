#include "tests/metal_cuda/compiled_kernels.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <utility>

namespace xlstm::metal_cuda {
namespace {

// Made by the first kernel that registers itself and therefore still there when the launches are written.
std::vector<CompiledKernel>& kernels() {
  static std::vector<CompiledKernel> list;
  return list;
}

class Launches {
 public:
  Launches() : file_(std::getenv("XLSTM_METAL_CUDA_LAUNCHES")) { kernels(); }
  ~Launches() {
    if (file_ == nullptr) return;
    std::ofstream out(std::string(file_) + '.' + std::to_string(getpid()));
    for (const CompiledKernel& kernel : kernels()) {
      out << kernel.shader << ' ' << kernel.name << ' ' << counts_[kernel.entry] << '\n';
    }
  }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;
  void add(const CompiledKernel& kernel) { ++counts_[kernel.entry]; }

 private:
  const char* file_;
  std::map<const void*, long> counts_;
};

Launches& launches() {
  static Launches all;
  return all;
}

}  // namespace

void add_kernel(CompiledKernel kernel) {
  kernels().push_back(std::move(kernel));
}

const std::vector<CompiledKernel>& compiled_kernels() {
  return kernels();
}

void count_launch(const CompiledKernel& kernel) {
  launches().add(kernel);
}

}  // namespace xlstm::metal_cuda
