// An Apple GPU as libtorch drives it: compiled shaders, and commands in the order of the calls.
//
// Everything here belongs to one thread. In tests an emulator stands in for the GPU, and tensors live on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace at::native::mps {
class DynamicMetalShaderLibrary;
class MetalKernelFunction;
}  // namespace at::native::mps

namespace xlstm::metal {

// A kernel of the shaders, by the name it has there. Valid as long as its Gpu.
using Kernel = at::native::mps::MetalKernelFunction*;

// Threadgroups along x, y and z, of `threads` threads each (a multiple of 32).
struct Grid {
  std::array<int64_t, 3> groups{1, 1, 1};
  int64_t threads = 32;
};

using Buffers = std::initializer_list<std::reference_wrapper<const at::Tensor>>;

class Gpu {
 public:
  // Compiles all shaders. `tensors`: the device whose tensors the kernels work on. Error kDevice if this system's
  // compiler refuses one, with what it says.
  explicit Gpu(at::Device tensors);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  [[nodiscard]] at::Device tensors() const { return tensors_; }
  // Made for this GPU at the first request, which takes a while: not within a pass. Error kDevice if the GPU cannot run
  // it.
  [[nodiscard]] Kernel kernel(const std::string& name) const;

  // Appends a command: `args` is the kernel's buffer 0, `buffers` are those from 1 on, at their storage offsets. An
  // absent buffer is passed as any other one; the kernel does not touch it. Commands run one after the other, each
  // seeing what those before it wrote. A grid without threadgroups is no command. Error kDevice if the GPU cannot run
  // so many threads of the kernel together.
  template <class Args>
  void run(Kernel kernel, const Grid& grid, const Args& args, Buffers buffers) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kMaxArgBytes && sizeof(Args) % 4 == 0);
    append(kernel, grid, &args, sizeof(Args), buffers);
  }

  // Within a pass commands are collected and encoded many at a time; outside of one, each at once. Nothing but this
  // object may use the tensors of a pass before end_pass() or flush(). A pass that is given up half-way
  // ends by abandon_pass(), or when the next one begins: what it collected is forgotten.
  void begin_pass();
  void end_pass();
  void abandon_pass();
  // Encodes what is collected and lets the GPU begin. libtorch's own calls may follow in the same pass.
  void flush();

 private:
  static constexpr size_t kMaxArgBytes = 4096;  // Metal's limit for bytes in a command
  struct Command {
    Kernel kernel = nullptr;
    Grid grid;
    size_t args_begin = 0;
    size_t args_bytes = 0;
    size_t buffers_begin = 0;
    size_t buffers = 0;
  };

  void append(Kernel kernel, const Grid& grid, const void* args, size_t bytes, Buffers buffers);
  void encode() const;
  void forget();

  at::Device tensors_;
  std::vector<std::unique_ptr<at::native::mps::DynamicMetalShaderLibrary>> libraries_;
  std::unordered_map<std::string, at::native::mps::DynamicMetalShaderLibrary*> library_of_;  // by kernel
  bool in_pass_ = false;
  std::vector<Command> commands_;
  std::vector<std::byte> args_;
  std::vector<at::Tensor> buffers_;  // kept alive until they are encoded
};

}  // namespace xlstm::metal
