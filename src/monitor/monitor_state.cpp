#include "xlstm/monitor/monitor_state.h"

#include <algorithm>
#include <array>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr size_t kPage = 10;
constexpr std::array kIntervals = {0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0};  // seconds

std::string name_of(const RunRecord& record) {
  return cat(record.pid, " (", printable(record.command, 20), ' ', printable(record.model, 30), ')');
}

// Keeps the selection on its process; if that has ended, on its place in the list.
void keep_selection(MonitorState& state, size_t place) {
  const auto& processes = state.look.processes;
  if (processes.empty()) {
    state.selected.reset();
    return;
  }
  const bool still_there = state.selected && std::any_of(processes.begin(), processes.end(), [&](const auto& process) {
                             return key_of(process.record) == *state.selected;
                           });
  if (!still_there) state.selected = key_of(processes[std::min(place, processes.size() - 1)].record);
}

void select(MonitorState& state, size_t place) {
  const auto& processes = state.look.processes;
  if (!processes.empty()) state.selected = key_of(processes[std::min(place, processes.size() - 1)].record);
}

void say_who_ended(MonitorState& state, const Look& next) {
  std::vector<std::string> ended;
  for (const RunningProcess& before : state.look.processes) {
    const bool there = std::any_of(next.processes.begin(), next.processes.end(), [&](const RunningProcess& now) {
      return key_of(now.record) == key_of(before.record);
    });
    if (!there) ended.push_back(name_of(before.record));
  }
  if (ended.size() == 1) show_message(state, cat(ended[0], " has ended"));
  if (ended.size() > 1) show_message(state, cat(ended.size(), " processes have ended"));
}

void change_interval(MonitorState& state, bool longer) {
  // Intervals from the command line may lie between the steps.
  constexpr double kSame = 1e-9;
  if (longer) {
    const auto* next = std::find_if(kIntervals.begin(), kIntervals.end(),
                                    [&](double value) { return value > state.interval + kSame; });
    if (next != kIntervals.end()) state.interval = *next;
  } else {
    const auto next = std::find_if(kIntervals.rbegin(), kIntervals.rend(),
                                   [&](double value) { return value < state.interval - kSame; });
    if (next != kIntervals.rend()) state.interval = *next;
  }
}

// The answer to "terminate?": anything but y is no.
KeyEffect answer(MonitorState& state, int key) {
  RunRecord target = std::move(*state.asked_to_terminate);
  state.asked_to_terminate.reset();
  if (key == 'y' || key == 'Y') return {KeyEffect::Kind::kTerminate, std::move(target)};
  show_message(state, "not terminated");
  return {};
}

}  // namespace

size_t selected_index(const MonitorState& state) {
  const auto& processes = state.look.processes;
  if (!state.selected) return 0;
  const auto found = std::find_if(processes.begin(), processes.end(), [&](const RunningProcess& process) {
    return key_of(process.record) == *state.selected;
  });
  return found == processes.end() ? 0 : static_cast<size_t>(found - processes.begin());
}

const std::deque<double>& speeds_of(const MonitorState& state, const RunRecord& record) {
  static const std::deque<double> none;
  const auto found = state.histories.find(key_of(record));
  return found == state.histories.end() ? none : found->second.speeds;
}

void take_look(MonitorState& state, Look look) {
  if (state.paused) return;
  sort_processes(look.processes, state.sort);
  if (look.time >= state.message_until) state.message.clear();
  say_who_ended(state, look);
  const size_t place = selected_index(state);
  std::map<ProcessKey, SpeedHistory> histories;
  for (const RunningProcess& process : look.processes) {
    const ProcessKey key = key_of(process.record);
    const auto known = state.histories.find(key);
    // Another phase has other speeds: prefill's would make those of decode a flat line.
    SpeedHistory history{process.record.phase, {}};
    if (known != state.histories.end() && known->second.phase == history.phase) history = std::move(known->second);
    history.speeds.push_back(process.silent_s < kSilentAfter ? process.record.tok_s : 0);
    if (history.speeds.size() > MonitorState::kHistory) history.speeds.pop_front();
    histories.emplace(key, std::move(history));
  }
  state.histories = std::move(histories);
  state.look = std::move(look);
  keep_selection(state, place);
}

void show_message(MonitorState& state, std::string message) {
  constexpr double kShown = 5;  // seconds
  state.message = std::move(message);
  state.message_until = state.look.time + kShown;
}

KeyEffect press_key(MonitorState& state, int key) {
  using Kind = KeyEffect::Kind;
  state.message.clear();
  if (state.asked_to_terminate) return answer(state, key);
  if (state.help) {
    state.help = false;
    if (key != 'q' && key != 'Q') return {};
    return {Kind::kQuit, {}};
  }

  const size_t place = selected_index(state);
  const bool any = !state.look.processes.empty();
  switch (key) {
    case keys::kUp:
    case 'k': select(state, place == 0 ? 0 : place - 1); break;
    case keys::kDown:
    case 'j': select(state, place + 1); break;
    case keys::kPageUp: select(state, place < kPage ? 0 : place - kPage); break;
    case keys::kPageDown: select(state, place + kPage); break;
    case keys::kHome: select(state, 0); break;
    case keys::kEnd: select(state, state.look.processes.size()); break;
    case 's':
    case 'S':
      state.sort = next_sort_key(state.sort);
      sort_processes(state.look.processes, state.sort);
      break;
    case 'p':
    case 'P':
    case ' ':
      state.paused = !state.paused;
      if (!state.paused) return {Kind::kLook, {}};
      break;
    case '+':
    case '=': change_interval(state, true); break;
    case '-':
    case '_': change_interval(state, false); break;
    case 'e':
    case 'E':
      if (any) return {Kind::kEmptyCache, state.look.processes[place].record};
      break;
    case 't':
    case 'T':
      if (any) state.asked_to_terminate = state.look.processes[place].record;
      break;
    case 'h':
    case 'H':
    case '?': state.help = true; break;
    case 'q':
    case 'Q': return {Kind::kQuit, {}};
    default: break;
  }
  return {};
}

}  // namespace xlstm
