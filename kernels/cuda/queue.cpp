#include "kernels/cuda/queue.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/stage.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
bool Queue::Commands::operator==(const Commands& other) const {
  const auto same = [](const Command& a, const Command& b) {
    return a.invoke == b.invoke && a.grid == b.grid && a.args_begin == b.args_begin && a.args_bytes == b.args_bytes;
  };
  return std::equal(list.begin(), list.end(), other.list.begin(), other.list.end(), same) && args == other.args;
}

Queue::Queue(int device) : device_(device), processors_(device_properties(device).processors) {
  select(device_);
  stream_ = make_stream();
  staged_host_ = static_cast<int32_t*>(allocate_pinned(kStagedValues * sizeof(int32_t)));
  staged_device_ = static_cast<int32_t*>(allocate_on_device(kStagedValues * sizeof(int32_t)));
  turn_.numbers = static_cast<int32_t*>(allocate_on_device(static_cast<size_t>(processors_) * sizeof(int32_t)));
}

Queue::~Queue() {
  for (const Graph& graph : graphs_) destroy_graph(graph.handle);
  for (const auto& [rows, begun_there] : tensor_maps_) {
    for (const MappedMatrix& mapped : begun_there) free_tensor_map(mapped.map);
  }
  if (turn_.numbers != nullptr) free_on_device(turn_.numbers);
  if (staged_device_ != nullptr) free_on_device(staged_device_);
  if (staged_host_ != nullptr) free_pinned(staged_host_);
  if (stream_ != nullptr) destroy_stream(stream_);
}

void Queue::append(Invoke invoke, const Grid& grid, const void* args, size_t bytes) {
  XLSTM_ASSERT(grid.threads >= 32 && grid.threads % 32 == 0 && grid.threads <= 1024);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (!in_pass_ || !repeatable_) {
    select(device_);
    invoke(grid, args, stream_, !std::exchange(first_of_pass_, !in_pass_));
    return;
  }
  commands_.list.push_back({invoke, grid, commands_.args.size(), bytes});
  commands_.args.resize(commands_.args.size() + bytes);
  std::memcpy(commands_.args.data() + commands_.list.back().args_begin, args, bytes);
}

const TensorMap* Queue::tensor_map(const void* rows, int64_t row_bytes, int64_t count) {
  std::vector<MappedMatrix>& begun_there = tensor_maps_[rows];
  for (const MappedMatrix& mapped : begun_there) {
    if (mapped.row_bytes == row_bytes && mapped.count == count) return mapped.map;
  }
  select(device_);
  return begun_there.emplace_back(MappedMatrix{row_bytes, count, make_tensor_map(rows, row_bytes, count)}).map;
}

Turn Queue::take_turn(int64_t blocks) {
  XLSTM_ASSERT(blocks <= processors_);
  const Turn taken = turn_;
  if (in_pass_) {
    ++turn_.number;
    turn_.blocks_before = static_cast<int32_t>(blocks);
  }
  return taken;
}

const int32_t* Queue::stage(std::span<const int32_t> values) {
  if (!in_pass_) forget_staged();
  const auto same = [&](const Staged& staged) {
    return staged.count == values.size() && std::equal(values.begin(), values.end(), staged_host_ + staged.begin);
  };
  const auto found = std::find_if(staged_.begin(), staged_.end(), same);
  if (found != staged_.end()) return staged_device_ + found->begin;
  XLSTM_ASSERT(values.size() <= kStagedValues - staged_values_);
  const Staged added{staged_values_, values.size()};
  std::copy(values.begin(), values.end(), staged_host_ + added.begin);
  staged_values_ += values.size();
  staged_.push_back(added);
  copy_staged(*this, staged_host_ + added.begin, staged_device_ + added.begin, added.count);
  return staged_device_ + added.begin;
}

void Queue::begin_pass(bool repeatable) {
  abandon_pass();
  forget_staged();
  in_pass_ = true;
  repeatable_ = repeatable;
  first_of_pass_ = true;
}

void Queue::end_pass() {
  if (repeatable_) repeat_or_launch();
  forget();
}

void Queue::abandon_pass() {
  forget();
}

void Queue::flush() {
  if (!in_pass_) return;
  launch_all(commands_);
  commands_.clear();
  repeatable_ = false;
  forget_turns();
  first_of_pass_ = true;  // what follows waits for the other user of the default stream, too
}

void Queue::forget_staged() {
  if (staged_values_ > 0) wait();  // the device may still read what is overwritten next
  staged_.clear();
  staged_values_ = 0;
}

void Queue::wait() {
  select(device_);
  synchronize(stream_);
}

void Queue::launch_all(const Commands& commands) {
  select(device_);
  bool early = false;
  for (const Command& command : commands.list) {
    command.invoke(command.grid, commands.args.data() + command.args_begin, stream_, early);
    early = true;
  }
}

void Queue::repeat_or_launch() {
  ++passes_;
  const auto known =
      std::find_if(graphs_.begin(), graphs_.end(), [this](const Graph& graph) { return graph.commands == commands_; });
  if (known != graphs_.end()) {
    known->used = passes_;
    select(device_);
    launch_graph(known->handle, stream_);
    ++graph_launches_;
    return;
  }
  if (!(last_ == commands_)) {
    launch_all(commands_);
    std::swap(last_, commands_);
    return;
  }
  const GraphHandle graph = capture(commands_);
  if (graphs_.size() == kMaxGraphs) {
    const auto oldest = std::min_element(graphs_.begin(), graphs_.end(),
                                         [](const Graph& a, const Graph& b) { return a.used < b.used; });
    wait();
    destroy_graph(oldest->handle);
    graphs_.erase(oldest);
  }
  graphs_.push_back({commands_, graph, passes_});
  launch_graph(graph, stream_);
  ++graph_launches_;
}

GraphHandle Queue::capture(const Commands& commands) {
  select(device_);
  begin_capture(stream_);
  try {
    launch_all(commands);
  } catch (...) {
    abandon_capture(stream_);
    throw;
  }
  return end_capture(stream_);
}

void Queue::forget() {
  commands_.clear();
  in_pass_ = false;
  repeatable_ = false;
  first_of_pass_ = true;
  forget_turns();
}

void Queue::forget_turns() {
  turn_.number = 0;
  turn_.blocks_before = 0;
}

}  // namespace xlstm::cuda
