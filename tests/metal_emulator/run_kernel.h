// Runs kernels of the sample shaders in tests.
#pragma once

#include <ATen/ATen.h>
#include <ATen/native/mps/MetalShaderLibrary.h>

#include <array>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>

#include "tests/metal_emulator/emulator.h"

namespace xlstm::emulator {

// Why a test of faults is skipped where has_checks() is false.
inline constexpr const char* kNotChecked =
    "NOT RUN: built with a sanitizer, which takes the place of the emulator's checks";

struct TestGrid {
  std::array<uint64_t, 3> groups{1, 1, 1};
  uint64_t threads = 32;
};

inline std::string read_text(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Shader {
 public:
  // `file`: below tests/metal_emulator.
  explicit Shader(const std::string& file)
      : library_(read_text(std::string(XLSTM_SOURCE_DIR) + "/tests/metal_emulator/" + file)) {}

  template <class Args>
  void run(const std::string& kernel, const TestGrid& grid, const Args& args,
           std::initializer_list<at::Tensor> buffers) const {
    at::native::mps::MetalKernelFunction& function = *library_.getCachedKernelFunctionPtr(kernel);
    function.runCommandBlock([&] {
      function.startEncoding();
      function.setArg(0, &args, sizeof(args));
      unsigned index = 1;
      for (const at::Tensor& buffer : buffers) function.setArg(index++, buffer);
      const std::array<uint64_t, 3> length = {grid.groups[0] * grid.threads, grid.groups[1], grid.groups[2]};
      const std::array<uint64_t, 3> group = {grid.threads, 1, 1};
      function.dispatch(length, group);
    });
  }

  // What the dispatch reports, or "" if it succeeds.
  template <class Args>
  [[nodiscard]] std::string fault_of(const std::string& kernel, const TestGrid& grid, const Args& args,
                                     std::initializer_list<at::Tensor> buffers) const {
    try {
      run(kernel, grid, args, buffers);
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "";
  }

 private:
  mutable at::native::mps::DynamicMetalShaderLibrary library_;
};

}  // namespace xlstm::emulator
