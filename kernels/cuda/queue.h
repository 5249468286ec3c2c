// Kernels in the order of the calls. The commands of a pass that comes again and again, as each token's does, become a
// CUDA graph, which is launched as a whole.
//
// Belongs to one thread. No CUDA header, so that host code compiles everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace xlstm::cuda {

// Of a kernel among those of a pass that take turns.
struct Turn {
  int32_t* numbers;       // of each block: whose turn it is
  int32_t number;         // the kernel's, from 0 on
  int32_t blocks_before;  // of the kernel that had the turn before; 0 if it is the first
};

class Queue {
 public:
  explicit Queue(int device);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  [[nodiscard]] int device() const { return device_; }
  // Multiprocessors of the device.
  [[nodiscard]] int processors() const { return processors_; }

  // Appends a kernel. Each sees what those before it wrote. A grid without blocks is no command.
  template <class Args>
  void run(Invoke invoke, const Grid& grid, const Args& args) {
    // Padding would make equal commands look different.
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kMaxArgBytes && sizeof(Args) % 8 == 0);
    append(invoke, grid, &args, sizeof(Args));
  }

  // Copies values to the device as part of the pass, in the order of the commands; a pass that is repeated may give
  // others each time. Equal values given again in a pass are not copied again. The pointer is good until the next
  // begin_pass(), outside of a pass until the next call.
  [[nodiscard]] const int32_t* stage(std::span<const int32_t> values);

  // Of a matrix in device memory, made once and kept.
  [[nodiscard]] const TensorMap* tensor_map(const void* rows, int64_t row_bytes, int64_t count);

  // Of the next kernel to be run, which has so many blocks, one for each processor at most, and passes the turn on in
  // each of them (kernel.h).
  [[nodiscard]] Turn take_turn(int64_t blocks);

  // Outside of a pass commands run at once. A `repeatable` pass is collected whole; if it consists of the same commands
  // with the same arguments as an earlier one, the graph made of that one is launched. Nothing but this object may use
  // the tensors of a pass before end_pass() or flush(). A pass that is given up half-way ends by abandon_pass() or when
  // the next one begins: what it collected is forgotten.
  void begin_pass(bool repeatable);
  void end_pass();
  void abandon_pass();
  // Runs what is collected. Other users of the default stream may follow in the same pass, which is then not
  // repeatable.
  void flush();
  // Returns when all has been computed.
  void wait();

  // Launches of graphs so far, for tests.
  [[nodiscard]] int64_t graph_launches() const { return graph_launches_; }

  // A pass of repeated form is captured when it comes the second time in a row: the first may prepare what a capture
  // must not. At most so many graphs are kept.
  static constexpr size_t kMaxGraphs = 16;

 private:
  static constexpr size_t kMaxArgBytes = 4000;  // of a kernel's parameters, which may be 4096
  static constexpr size_t kStagedValues = size_t{1} << 20;

  struct Command {
    Invoke invoke = nullptr;
    Grid grid;
    size_t args_begin = 0;
    size_t args_bytes = 0;
  };
  struct Commands {
    std::vector<Command> list;
    std::vector<std::byte> args;
    void clear() {
      list.clear();
      args.clear();
    }
    [[nodiscard]] bool operator==(const Commands& other) const;
  };
  struct Graph {
    Commands commands;
    GraphHandle handle = nullptr;
    uint64_t used = 0;
  };
  struct MappedMatrix {
    int64_t row_bytes;
    int64_t count;
    const TensorMap* map;
  };
  struct Staged {
    size_t begin = 0;
    size_t count = 0;
  };

  void append(Invoke invoke, const Grid& grid, const void* args, size_t bytes);
  void launch_all(const Commands& commands);
  void repeat_or_launch();
  [[nodiscard]] GraphHandle capture(const Commands& commands);
  void forget();
  void forget_staged();
  void forget_turns();

  int device_;
  int processors_;
  std::unordered_map<const void*, std::vector<MappedMatrix>> tensor_maps_;  // by where they begin
  StreamHandle stream_ = nullptr;
  bool in_pass_ = false;
  bool repeatable_ = false;
  bool first_of_pass_ = true;  // the next launch must not begin early
  Commands commands_;
  Commands last_;  // the last repeatable pass that was not a graph
  std::vector<Graph> graphs_;
  uint64_t passes_ = 0;
  int64_t graph_launches_ = 0;
  int32_t* staged_host_ = nullptr;    // pinned
  int32_t* staged_device_ = nullptr;  // where kernels find them
  size_t staged_values_ = 0;
  std::vector<Staged> staged_;
  Turn turn_{};  // the next one
};

}  // namespace xlstm::cuda
