#include "kernels/cuda/queue.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/stage.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

// Where part `part` of a pass of `count` commands begins; `count` if there is none.
size_t begin_of_part(size_t part, size_t count, bool together) {
  if (part == 0) return 0;
  return part <= Queue::kPartEnds.size() && !together ? std::min(Queue::kPartEnds.at(part - 1), count) : count;
}

}  // namespace

bool Queue::Commands::begins_like(const Commands& other, size_t count) const {
  const auto same = [](const Command& a, const Command& b) {
    return a.invoke == b.invoke && a.grid == b.grid && a.args_begin == b.args_begin && a.args_bytes == b.args_bytes;
  };
  if (list.size() < count) return false;
  const auto end = other.list.begin() + static_cast<std::ptrdiff_t>(count);
  if (!std::equal(other.list.begin(), end, list.begin(), same)) return false;
  const size_t bytes = count == 0 ? 0 : list[count - 1].args_begin + list[count - 1].args_bytes;
  return bytes == 0 || std::memcmp(args.data(), other.args.data(), bytes) == 0;
}

Queue::Queue(int device) : device_(device), processors_(device_properties(device).processors) {
  select(device_);
  stream_ = make_stream();
  current_ = stream_;
  turn_.numbers = static_cast<int32_t*>(allocate_on_device(static_cast<size_t>(processors_) * sizeof(int32_t)));
}

Queue::~Queue() {
  for (const Graph& graph : graphs_) destroy(graph);
  for (const auto& [rows, begun_there] : tensor_maps_) {
    for (const MappedMatrix& mapped : begun_there) free_tensor_map(mapped.map);
  }
  if (turn_.numbers != nullptr) free_on_device(turn_.numbers);
  for (const StageBuffer& buffer : stage_buffers_) {
    free_on_device(buffer.device);
    free_pinned(buffer.host);
  }
  for (const StreamHandle stream : branch_streams_) destroy_stream(stream);
  if (stream_ != nullptr) destroy_stream(stream_);
}

void Queue::append(Invoke invoke, const Grid& grid, const void* args, size_t bytes) {
  XLSTM_ASSERT(grid.threads >= 32 && grid.threads % 32 == 0 && grid.threads <= 1024);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (!in_pass_ || !repeatable_) {
    select(device_);
    invoke(grid, args, current_, !std::exchange(is_first_, !in_pass_));
    return;
  }
  commands_.list.push_back({invoke, grid, commands_.args.size(), bytes});
  commands_.args.resize(commands_.args.size() + bytes);
  std::memcpy(commands_.args.data() + commands_.list.back().args_begin, args, bytes);
  if (!together_ && begun_parts_ < kPartEnds.size() && commands_.list.size() == kPartEnds.at(begun_parts_))
    launch_part();
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
  XLSTM_ASSERT(branches_ == 0);
  if (!in_pass_) forget_staged();
  const auto same = [&](const Staged& staged) {
    return staged.count == values.size() && std::equal(values.begin(), values.end(), staged.host);
  };
  const auto found = std::find_if(staged_.begin(), staged_.end(), same);
  if (found != staged_.end()) return found->device;
  StageBuffer& buffer = stage_buffer_for(values.size());
  const Staged added{buffer.host + buffer.used, buffer.device + buffer.used, values.size()};
  if (!std::equal(values.begin(), values.end(), added.host)) {
    if (std::exchange(may_be_read_, false)) wait();
    std::copy(values.begin(), values.end(), buffer.host + buffer.used);
  }
  copy_staged(*this, added.host, buffer.device + buffer.used, added.count);
  buffer.used += values.size();
  staged_.push_back(added);
  return added.device;
}

// One with room for so many values more.
Queue::StageBuffer& Queue::stage_buffer_for(size_t count) {
  const auto fits = [&](const StageBuffer& buffer) { return count <= buffer.count - buffer.used; };
  const auto found = std::find_if(stage_buffers_.begin(), stage_buffers_.end(), fits);
  if (found != stage_buffers_.end()) return *found;
  select(device_);
  StageBuffer added;
  added.count = std::max(count, kStagedValues);
  added.host = static_cast<int32_t*>(allocate_pinned(added.count * sizeof(int32_t)));
  std::fill_n(added.host, added.count, 0);  // looked at before it is written
  try {
    added.device = static_cast<int32_t*>(allocate_on_device(added.count * sizeof(int32_t)));
  } catch (...) {
    free_pinned(added.host);
    throw;
  }
  return stage_buffers_.emplace_back(added);
}

void Queue::begin_pass(bool repeatable) {
  abandon_pass();
  forget_staged();
  in_pass_ = true;
  repeatable_ = repeatable;
  together_ = false;
  is_first_ = true;
}

void Queue::end_pass() {
  XLSTM_ASSERT(branches_ == 0);
  if (repeatable_) repeat_or_launch();
  forget();
}

void Queue::abandon_pass() {
  forget();
}

void Queue::keep_together() {
  XLSTM_ASSERT(commands_.list.empty());
  together_ = true;
}

void Queue::flush() {
  XLSTM_ASSERT(branches_ == 0);
  if (!in_pass_) return;
  launch_rest();
  commands_.clear();
  begun_parts_ = 0;
  repeatable_ = false;
  forget_turns();
  is_first_ = true;  // what follows waits for the other user of the default stream, too
}

void Queue::fork(int64_t branches) {
  XLSTM_ASSERT(branches_ == 0 && branches >= 1);
  flush();
  select(device_);
  while (static_cast<int64_t>(branch_streams_.size()) < branches - 1) branch_streams_.push_back(make_stream());
  branches_ = branches;
  for (int64_t branch = 1; branch < branches; ++branch) {
    order_behind(branch_streams_[static_cast<size_t>(branch - 1)], stream_);
  }
  use_branch(0);
}

void Queue::use_branch(int64_t branch) {
  XLSTM_ASSERT(branch >= 0 && branch < branches_);
  current_ = branch == 0 ? stream_ : branch_streams_[static_cast<size_t>(branch - 1)];
  is_first_ = true;
}

void Queue::join() {
  const int64_t branches = std::exchange(branches_, 0);
  current_ = stream_;
  is_first_ = true;
  select(device_);
  for (int64_t branch = 1; branch < branches; ++branch) {
    order_behind(stream_, branch_streams_[static_cast<size_t>(branch - 1)]);
  }
}

void Queue::forget_staged() {
  may_be_read_ = may_be_read_ || !staged_.empty();
  staged_.clear();
  for (StageBuffer& buffer : stage_buffers_) buffer.used = 0;
}

void Queue::wait() {
  select(device_);
  synchronize(stream_);
}

void Queue::wait_for(const uint64_t* word, uint64_t value) {
  select(device_);
  wait_for_value(word, value, stream_);
}

void Queue::launch(const Commands& commands, size_t begin, size_t end) {
  select(device_);
  for (size_t i = begin; i < end; ++i) {
    const Command& command = commands.list[i];
    command.invoke(command.grid, commands.args.data() + command.args_begin, stream_, i > begin);
  }
}

// What no graph has begun.
void Queue::launch_rest() {
  const size_t count = commands_.list.size();
  launch(commands_, begin_of_part(begun_parts_, count, together_), count);
}

// A part has been collected, and all before it have begun. An equal part of any earlier pass will do.
void Queue::launch_part() {
  const size_t count = commands_.list.size();
  for (Graph& graph : graphs_) {
    if (graph.together || !graph.commands.begins_like(commands_, count)) continue;
    select(device_);
    launch_graph(graph.parts.at(begun_parts_), stream_);
    ++begun_parts_;
    return;
  }
}

// Launches the parts of a pass that have not begun.
void Queue::finish(Graph& graph) {
  graph.used = passes_;
  select(device_);
  for (size_t part = begun_parts_; part < graph.parts.size(); ++part) launch_graph(graph.parts[part], stream_);
  ++graph_passes_;
}

void Queue::repeat_or_launch() {
  ++passes_;
  const auto known = std::find_if(graphs_.begin(), graphs_.end(), [this](const Graph& graph) {
    return graph.together == together_ && graph.commands == commands_;
  });
  if (known != graphs_.end()) return finish(*known);
  if (!(last_ == commands_)) {
    launch_rest();
    std::swap(last_, commands_);
    return;
  }
  Graph graph{commands_, together_, {}, passes_};
  const size_t count = commands_.list.size();
  try {
    const auto begin_of = [&](size_t part) { return begin_of_part(part, count, together_); };
    for (size_t part = 0; part == 0 || begin_of(part) < count; ++part) {
      graph.parts.push_back(capture(commands_, begin_of(part), begin_of(part + 1)));
    }
  } catch (...) {
    destroy(graph);
    throw;
  }
  if (graphs_.size() == kMaxGraphs) {
    const auto oldest = std::min_element(graphs_.begin(), graphs_.end(),
                                         [](const Graph& a, const Graph& b) { return a.used < b.used; });
    wait();
    destroy(*oldest);
    graphs_.erase(oldest);
  }
  graphs_.push_back(std::move(graph));
  finish(graphs_.back());
}

void Queue::destroy(const Graph& graph) {
  for (const GraphHandle part : graph.parts) destroy_graph(part);
}

GraphHandle Queue::capture(const Commands& commands, size_t begin, size_t end) {
  select(device_);
  begin_capture(stream_);
  try {
    launch(commands, begin, end);
  } catch (...) {
    abandon_capture(stream_);
    throw;
  }
  return end_capture(stream_);
}

void Queue::forget() {
  if (branches_ > 0) {  // given up between the two
    try {
      join();
    } catch (const Error&) {  // whoever uses the device next is told
    }
  }
  commands_.clear();
  begun_parts_ = 0;
  in_pass_ = false;
  repeatable_ = false;
  is_first_ = true;
  forget_turns();
}

void Queue::forget_turns() {
  turn_.number = 0;
  turn_.blocks_before = 0;
}

}  // namespace xlstm::cuda
