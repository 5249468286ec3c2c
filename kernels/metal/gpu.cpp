#include "kernels/metal/gpu.h"

#include <ATen/Context.h>
#include <ATen/native/mps/MetalShaderLibrary.h>
#include <c10/util/ScopeExit.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "kernels/metal/shaders.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

#if defined(__APPLE__)
extern "C" {
void* objc_autoreleasePoolPush();
void objc_autoreleasePoolPop(void* pool);
}
#endif

namespace xlstm::metal {
namespace {

using at::native::mps::DynamicMetalShaderLibrary;

// Commands between two commits: so few that the GPU is not idle while the rest of a token is encoded, so many that a
// commit, which costs as much as some commands, does not count.
constexpr size_t kCommandsPerCommit = 48;

// What Metal objects are made in between is let go at the end; a plain program has no pool of its own.
class AutoreleasePool {
 public:
#if defined(__APPLE__)
  AutoreleasePool() : pool_(objc_autoreleasePoolPush()) {}
  ~AutoreleasePool() {
    objc_autoreleasePoolPop(pool_);
  }

 private:
  void* pool_;

 public:
#else
  AutoreleasePool() = default;
  ~AutoreleasePool() {}
#endif
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;
};

// The line of a compiler's message that says what is wrong: warnings may come before it.
std::string essence(const std::string& message) {
  const size_t error = message.find("error:");
  const size_t line = error == std::string::npos ? 0 : message.rfind('\n', error) + 1;  // npos + 1 is 0
  return message.substr(line, message.find('\n', line) - line);
}

// Calls make(); what the system says against it becomes one line.
template <class Make>
auto accepted(const char* what, const std::string& where, const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    log::debug(error.what());
    fail(ExitCode::kDevice, what, where, "to be accepted by this system; --device cpu runs without a GPU",
         essence(error.what()));
  }
}

}  // namespace

Gpu::Gpu(at::Device tensors) : tensors_(tensors) {
  const AutoreleasePool pool;
  for (const Shader& shader : shaders()) {
    libraries_.push_back(accepted("Metal shader", shader.file, [&] {
      auto library = std::make_unique<DynamicMetalShaderLibrary>(shader.text);
      for (const std::string& name : library->getFunctionNames()) library_of_[name] = library.get();
      return library;
    }));
  }
}

Gpu::~Gpu() = default;

Kernel Gpu::kernel(const std::string& name) const {
  const auto found = library_of_.find(name);
  if (found == library_of_.end()) fail(ExitCode::kInternal, "Metal kernel", "shaders", "a known name", name);
  const AutoreleasePool pool;
  const Kernel kernel = accepted("Metal kernel", name, [&] { return found->second->getCachedKernelFunctionPtr(name); });
  if (kernel->getThreadExecutionWidth() != 32) {
    fail(ExitCode::kDevice, "threads of a simdgroup", cat("Metal kernel ", name), "32; --device cpu runs without a GPU",
         std::to_string(kernel->getThreadExecutionWidth()));
  }
  return kernel;
}

void Gpu::append(Kernel kernel, const Grid& grid, const void* args, size_t bytes, Buffers buffers) {
  XLSTM_ASSERT(kernel != nullptr && grid.threads % 32 == 0 && grid.threads >= 32);
  if (static_cast<uint64_t>(grid.threads) > kernel->getMaxThreadsPerThreadgroup()) {
    fail(ExitCode::kDevice, "threads of a threadgroup", "Metal kernel",
         cat("at least ", grid.threads, "; --device cpu runs without a GPU"),
         std::to_string(kernel->getMaxThreadsPerThreadgroup()));
  }
  if (std::any_of(grid.groups.begin(), grid.groups.end(), [](int64_t n) { return n == 0; })) return;
  commands_.push_back({kernel, grid, args_.size(), bytes, buffers_.size(), buffers.size()});
  args_.resize(args_.size() + bytes);
  std::memcpy(args_.data() + commands_.back().args_begin, args, bytes);
  for (const at::Tensor& buffer : buffers) {
    XLSTM_ASSERT(buffer.defined() && buffer.device().type() == tensors_.type());
    buffers_.push_back(buffer);
  }
  if (!in_pass_ || commands_.size() >= kCommandsPerCommit) flush();
}

void Gpu::begin_pass() {
  abandon_pass();
  in_pass_ = true;
}

void Gpu::abandon_pass() {
  forget();
  in_pass_ = false;
}

void Gpu::end_pass() {
  flush();
  in_pass_ = false;
}

void Gpu::flush() {
  if (commands_.empty()) return;
  const AutoreleasePool pool;
  const auto forget_always = c10::make_scope_exit([this] { forget(); });
  commands_.front().kernel->runCommandBlock([this] { encode(); });
  if (tensors_.is_mps()) at::detail::getMPSHooks().commitStream();
}

void Gpu::encode() const {
  for (const Command& command : commands_) {
    command.kernel->startEncoding();
    command.kernel->setArg(0, args_.data() + command.args_begin, command.args_bytes);
    for (size_t i = 0; i < command.buffers; ++i) {
      command.kernel->setArg(static_cast<unsigned>(i + 1), buffers_[command.buffers_begin + i]);
    }
    const auto threads = static_cast<uint64_t>(command.grid.threads);
    const std::array<uint64_t, 3> length = {static_cast<uint64_t>(command.grid.groups[0]) * threads,
                                            static_cast<uint64_t>(command.grid.groups[1]),
                                            static_cast<uint64_t>(command.grid.groups[2])};
    const std::array<uint64_t, 3> group = {threads, 1, 1};
    command.kernel->dispatch(length, group);
  }
}

void Gpu::forget() {
  commands_.clear();
  args_.clear();
  buffers_.clear();
}

}  // namespace xlstm::metal
