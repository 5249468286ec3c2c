// Kernels in the order of the calls. The commands of a pass that comes again and again, as each token's does, become a
// CUDA graph; or a few for the parts of the pass, where the device waits for the host: while it is at the first ones
// the others are collected.
//
// Belongs to one thread. No CUDA header, so that host code compiles everywhere.
#pragma once

#include <array>
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
  // others each time, but then waits for the pass before. Equal values given again in a pass are not copied again. The
  // pointer is good until the next begin_pass(), outside of a pass until the next call.
  [[nodiscard]] const int32_t* stage(std::span<const int32_t> values);

  // Of a matrix in device memory, made once and kept.
  [[nodiscard]] const TensorMap* tensor_map(const void* rows, int64_t row_bytes, int64_t count);

  // Of the next kernel to be run, which has so many blocks, one for each processor at most, and passes the turn on in
  // each of them (kernel.h). Outside of a pass nobody waits.
  [[nodiscard]] Turn take_turn(int64_t blocks);

  // Outside of a pass commands run at once. A `repeatable` pass is collected; if it consists of the same commands with
  // the same arguments as an earlier one, the graphs made of that one are launched, each as soon as its part has been
  // collected. Nothing but this object may use the tensors of a pass before end_pass() or flush(). A pass that is given
  // up half-way ends by abandon_pass() or when the next one begins: what was not launched is forgotten.
  void begin_pass(bool repeatable);
  void end_pass();
  void abandon_pass();
  // At the beginning of a pass: the device is still at the one before, so that this one is launched as a whole.
  void keep_together();
  // Runs what is collected. Other users of the default stream may follow in the same pass, which is then not
  // repeatable.
  void flush();
  // Between fork() and join() commands belong to the branch that use_branch() named last, 0 at first. Those of a branch
  // come in order, behind what came before fork(); branches run beside each other; what follows join() comes behind all
  // of them. A pass with branches is not repeatable. No flush() or stage() between the two.
  void fork(int64_t branches);
  void use_branch(int64_t branch);
  void join();
  // Returns when all has been computed.
  void wait();
  // Returns when a command that has been launched has given a word in pinned memory this value.
  void wait_for(const uint64_t* word, uint64_t value);

  // Passes so far that ended as graphs, for tests.
  [[nodiscard]] int64_t graph_passes() const { return graph_passes_; }

  // A pass of repeated form is captured when it comes the second time in a row: the first may prepare what a capture
  // must not. The graphs of so many passes are kept at most.
  static constexpr size_t kMaxGraphs = 16;
  // Commands after which a part of a pass ends; the last one has the rest. The device starts when a layer or so has
  // been collected, and the first two parts last as long as the others take to be collected and launched.
  static constexpr std::array<size_t, 2> kPartEnds = {8, 32};

 private:
  static constexpr size_t kMaxArgBytes = 4000;              // of a kernel's parameters, which may be 4096
  static constexpr size_t kStagedValues = size_t{1} << 20;  // of a buffer, at least

  struct Command {
    Invoke invoke = nullptr;
    Grid grid;
    size_t args_begin = 0;
    size_t args_bytes = 0;
  };
  struct Commands {
    std::vector<Command> list;
    std::vector<std::byte> args;
    // Whether this one begins with the first `count` commands of `other`, which has as many.
    [[nodiscard]] bool begins_like(const Commands& other, size_t count) const;
    void clear() {
      list.clear();
      args.clear();
    }
    [[nodiscard]] bool operator==(const Commands& other) const {
      return list.size() == other.list.size() && begins_like(other, list.size());
    }
  };
  struct Graph {
    Commands commands;
    bool together = false;
    std::vector<GraphHandle> parts;
    uint64_t used = 0;
  };
  struct MappedMatrix {
    int64_t row_bytes;
    int64_t count;
    const TensorMap* map;
  };
  // Where values of a pass are staged. Never moved while the pass lasts: kernels have been told where they are.
  struct StageBuffer {
    int32_t* host = nullptr;    // pinned
    int32_t* device = nullptr;  // where kernels find them
    size_t count = 0;
    size_t used = 0;
  };
  struct Staged {
    const int32_t* host = nullptr;
    const int32_t* device = nullptr;
    size_t count = 0;
  };

  void append(Invoke invoke, const Grid& grid, const void* args, size_t bytes);
  // Commands [begin, end).
  void launch(const Commands& commands, size_t begin, size_t end);
  void launch_rest();
  void launch_part();
  void repeat_or_launch();
  void finish(Graph& graph);
  [[nodiscard]] GraphHandle capture(const Commands& commands, size_t begin, size_t end);
  void destroy(const Graph& graph);
  void forget();
  [[nodiscard]] StageBuffer& stage_buffer_for(size_t count);
  void forget_staged();
  void forget_turns();

  int device_;
  int processors_;
  std::unordered_map<const void*, std::vector<MappedMatrix>> tensor_maps_;  // by where they begin
  StreamHandle stream_ = nullptr;
  std::vector<StreamHandle> branch_streams_;  // of branches 1, 2, …
  int64_t branches_ = 0;                      // since fork(); 0 behind join()
  StreamHandle current_ = nullptr;            // the branch's, or stream_
  bool in_pass_ = false;
  bool repeatable_ = false;
  bool together_ = false;
  bool is_first_ = true;  // the next launch, of a pass or a branch, must not begin early
  Commands commands_;
  size_t begun_parts_ = 0;  // of the pass, as graphs
  Commands last_;           // the last repeatable pass that was not a graph
  std::vector<Graph> graphs_;
  uint64_t passes_ = 0;
  int64_t graph_passes_ = 0;
  std::vector<StageBuffer> stage_buffers_;
  std::vector<Staged> staged_;
  bool may_be_read_ = false;  // what passes before this one have staged
  Turn turn_{};               // the next one
};

}  // namespace xlstm::cuda
