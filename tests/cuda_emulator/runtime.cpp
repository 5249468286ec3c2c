// The functions of kernels/cuda/runtime.h.
#include "kernels/cuda/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "emulator.h"
#include "tests/emulation/team.h"
#include "tests/emulation/turns.h"
#include "worker.h"

namespace xlstm::cuda_emulator {
namespace {

constexpr unsigned kMaxThreads = 1024;

// Runs one block of a kernel that begins before others have ended. On an OS thread of its own, for its static memory.
class EarlyThread {
 public:
  EarlyThread() : thread_([this] { work(); }) {}
  ~EarlyThread() {
    run({});
    thread_.join();
  }
  EarlyThread(const EarlyThread&) = delete;
  EarlyThread& operator=(const EarlyThread&) = delete;

  void begin(Launch& launch, uint32_t block) {
    run([&launch, block](Worker& worker) { worker.begin_early(launch, block); });
  }
  void finish() {
    run([](Worker& worker) { worker.finish_early(); });
  }

 private:
  using Task = std::function<void(Worker&)>;

  // Returns when it is done; an empty one ends the thread.
  void run(Task task) {
    std::unique_lock lock(mutex_);
    task_ = std::move(task);
    has_task_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !has_task_; });
  }
  void work() {
    Worker worker;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return has_task_; });
      const bool ends = !task_;
      if (!ends) task_(worker);
      has_task_ = false;
      changed_.notify_all();
      if (ends) return;
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Task task_;
  bool has_task_ = false;
  std::thread thread_;
};

struct Command {
  const Kernel* kernel = nullptr;
  cuda::Grid grid;
  std::vector<std::byte> arguments;
  bool early = false;
};
using Graph = std::vector<Command>;

struct Stream {
  bool capturing = false;
  Graph recorded;
  const Stream* behind = nullptr;  // the stream that this one was ordered behind last
  bool has_work = false;           // that nothing has been ordered behind
};

// All there are: the work of one that is behind another has to come before that one's next end.
class Streams {
 public:
  static Streams& get() {
    static Streams streams;
    return streams;
  }

  void add(Stream* stream) {
    const std::lock_guard lock(mutex_);
    all_.push_back(stream);
  }
  void remove(Stream* stream) {
    const std::lock_guard lock(mutex_);
    std::erase(all_, stream);
  }
  void order_behind(Stream& later, Stream& earlier) {
    const std::lock_guard lock(mutex_);
    later.behind = &earlier;
    earlier.has_work = false;
  }
  [[nodiscard]] bool forgets_work(const Stream& stream) {
    const std::lock_guard lock(mutex_);
    return std::any_of(all_.begin(), all_.end(),
                       [&](const Stream* other) { return other->behind == &stream && other->has_work; });
  }

 private:
  std::mutex mutex_;
  std::vector<Stream*> all_;
};

Stream& as_stream(cuda::StreamHandle handle) {
  return *static_cast<Stream*>(handle);
}

void check(const Kernel& kernel, const cuda::Grid& grid) {
  const auto refuse = [&](const std::string& what) { throw Fault(std::string(kernel.name) + ": " + what); };
  if (kernel.has_padding) refuse("arguments with padding");
  if (grid.threads % kLanes != 0 || grid.threads == 0 || grid.threads > kMaxThreads) {
    refuse(std::to_string(grid.threads) + " threads in a block: expected a multiple of 32 up to 1024");
  }
  if (grid.shared_bytes > kMaxSharedBytes) {
    refuse(std::to_string(grid.shared_bytes) + " bytes of shared memory: expected at most " +
           std::to_string(kMaxSharedBytes));
  }
  constexpr unsigned kMaxBlocksOfOtherAxes = 65535;
  if (grid.y > kMaxBlocksOfOtherAxes || grid.z > kMaxBlocksOfOtherAxes) refuse("too many blocks along y or z");
}

void set_up(Launch& launch, const Kernel& kernel, const cuda::Grid& grid, const void* arguments) {
  check(kernel, grid);
  launch.kernel = &kernel;
  launch.arguments = arguments;
  launch.grid = grid;
  launch.settings = settings();
  launch.order = emulation::ordered_blocks(launch.settings, size_t{grid.x} * grid.y * grid.z);
}

void run_now(const Kernel& kernel, const cuda::Grid& grid, const void* arguments) {
  Launch launch;
  set_up(launch, kernel, grid, arguments);
  emulation::Team<Worker, Launch>::get().run(launch);
  if (launch.failed) throw Fault(launch.fault);
}

// Of each kernel that may begin early a block runs up to wait_for_previous() before the two kernels before it, which is
// what programmatic dependent launch allows at worst (the kernel before may have asked for it and then wait itself).
void run_overlapping(const Graph& graph) {
  constexpr size_t kAhead = 2;
  static std::array<EarlyThread, kAhead + 1> threads;
  static std::mutex only_one;
  const std::lock_guard lock(only_one);
  std::deque<Launch> launches(graph.size());
  const auto prepare = [&](size_t i) {
    set_up(launches[i], *graph[i].kernel, graph[i].grid, graph[i].arguments.data());
  };
  size_t begun = 0;  // the last kernel that has
  for (size_t i = 0; i < graph.size(); ++i) {
    const bool began_early = begun >= i && i > 0;
    if (!began_early) prepare(i);
    begun = std::max(begun, i);
    for (; begun + 1 < graph.size() && begun < i + kAhead && graph[begun + 1].early; ++begun) {
      Launch& next = launches[begun + 1];
      prepare(begun + 1);
      next.next = 1;
      threads[(begun + 1) % threads.size()].begin(next, next.order.front());
    }
    if (began_early) threads[i % threads.size()].finish();
    if (!launches[i].failed) emulation::Team<Worker, Launch>::get().run(launches[i]);
    if (!launches[i].failed) continue;
    for (size_t later = i + 1; later <= begun; ++later) {
      launches[later].failed = true;
      threads[later % threads.size()].finish();
    }
    throw Fault(launches[i].fault);
  }
}

// What allocate_on_device() and allocate_pinned() returned.
class Allocations {
 public:
  static Allocations& get() {
    static Allocations allocations;
    return allocations;
  }

  void* add(size_t bytes) {
    std::shared_ptr<void> memory = guarded_memory(bytes);
    void* begin = memory.get();
    const std::lock_guard lock(mutex_);
    memory_.emplace(begin, std::move(memory));
    return begin;
  }
  void remove(void* begin) {
    const std::lock_guard lock(mutex_);
    memory_.erase(begin);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void*, std::shared_ptr<void>> memory_;
};

}  // namespace

Settings& settings() {
  static Settings value;
  return value;
}

std::atomic<int64_t>& synchronizations() {
  static std::atomic<int64_t> count = 0;
  return count;
}

bool has_checks() {
#if defined(XLSTM_EMULATOR_THREAD) || defined(XLSTM_EMULATOR_ADDRESS)
  return false;
#else
  return true;
#endif
}

std::shared_ptr<void> guarded_memory(size_t bytes) {
  constexpr size_t kAlignment = 16;
  const auto memory = std::make_shared<GuardedMemory>(std::max<size_t>(bytes, 1));
  std::byte* begin = memory->last(std::max<size_t>(bytes, 1), kAlignment);
  poison(begin, bytes);
  return {memory, begin};
}

std::string order_dependence(const std::function<std::string()>& run) {
  return emulation::order_dependence(settings(), run);
}

void launch(const Kernel& kernel, const cuda::Grid& grid, const void* arguments, cuda::StreamHandle stream,
            bool early) {
  if (!as_stream(stream).capturing) {
    as_stream(stream).has_work = true;
    return run_now(kernel, grid, arguments);
  }
  const auto* begin = static_cast<const std::byte*>(arguments);
  as_stream(stream).recorded.push_back({&kernel, grid, {begin, begin + kernel.argument_bytes}, early});
}

}  // namespace xlstm::cuda_emulator

namespace xlstm::cuda {

using cuda_emulator::Allocations;
using cuda_emulator::as_stream;
using cuda_emulator::Graph;
using cuda_emulator::Stream;

int device_count() {
  return 1;
}
DeviceProperties device_properties(int /*device*/) {
  return {.name = "emulated",
          .major = 9,
          .minor = 0,
          .processors = 132,
          .memory_bytes = size_t{1} << 32,
          .shared_bytes = cuda_emulator::kMaxSharedBytes};
}
void select(int /*device*/) {}

StreamHandle make_stream() {
  auto* const stream = new Stream;
  cuda_emulator::Streams::get().add(stream);
  return stream;
}
void destroy_stream(StreamHandle stream) {
  cuda_emulator::Streams::get().remove(&as_stream(stream));
  delete static_cast<Stream*>(stream);
}
void synchronize(StreamHandle stream) {
  ++cuda_emulator::synchronizations();
  if (as_stream(stream).capturing) throw cuda_emulator::Fault("synchronize() during a capture");
  if (cuda_emulator::Streams::get().forgets_work(as_stream(stream))) {
    throw cuda_emulator::Fault("synchronize() with work of a branch that nothing is ordered behind");
  }
}

void order_behind(StreamHandle later, StreamHandle earlier) {
  for (const StreamHandle stream : {later, earlier}) {
    if (as_stream(stream).capturing) throw cuda_emulator::Fault("order_behind() during a capture");
  }
  cuda_emulator::Streams::get().order_behind(as_stream(later), as_stream(earlier));
}

void wait_for_value(const uint64_t* word, uint64_t value, StreamHandle stream) {
  if (as_stream(stream).capturing) throw cuda_emulator::Fault("wait_for_value() during a capture");
  if (*word != value) throw cuda_emulator::Fault("a value is waited for that no kernel has written");
}

void begin_capture(StreamHandle stream) {
  if (as_stream(stream).capturing) throw cuda_emulator::Fault("begin_capture() during a capture");
  as_stream(stream).capturing = true;
  as_stream(stream).recorded.clear();
}
GraphHandle end_capture(StreamHandle stream) {
  if (!as_stream(stream).capturing) throw cuda_emulator::Fault("end_capture() without a capture");
  as_stream(stream).capturing = false;
  return new Graph(std::move(as_stream(stream).recorded));
}
void abandon_capture(StreamHandle stream) {
  as_stream(stream).capturing = false;
  as_stream(stream).recorded.clear();
}
void launch_graph(GraphHandle graph, StreamHandle /*stream*/) {
  cuda_emulator::run_overlapping(*static_cast<const Graph*>(graph));
}
void destroy_graph(GraphHandle graph) {
  delete static_cast<Graph*>(graph);
}

void* allocate_pinned(size_t bytes) {
  return Allocations::get().add(bytes);
}
void free_pinned(void* memory) {
  Allocations::get().remove(memory);
}
void* allocate_on_device(size_t bytes) {
  return Allocations::get().add(bytes);
}
void free_on_device(void* memory) {
  Allocations::get().remove(memory);
}

const TensorMap* make_tensor_map(const void* rows, int64_t row_bytes, int64_t count) {
  constexpr int64_t kUnit = 16;
  if (reinterpret_cast<uintptr_t>(rows) % kUnit != 0 || row_bytes % kLineBytes != 0) {
    throw cuda_emulator::Fault("a tensor map of misaligned rows, or ones that are not whole lines");
  }
  return new TensorMap{static_cast<const std::byte*>(rows), row_bytes, count};
}
void free_tensor_map(const TensorMap* map) {
  delete map;
}

}  // namespace xlstm::cuda
