// What the monitor shows and how keys change it: no terminal, no clock, no signals sent.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "xlstm/monitor/reader.h"

namespace xlstm {

// Keys are their characters, or one of these.
namespace keys {
inline constexpr int kUp = 0x110000;  // above every character
inline constexpr int kDown = kUp + 1;
inline constexpr int kPageUp = kUp + 2;
inline constexpr int kPageDown = kUp + 3;
inline constexpr int kHome = kUp + 4;
inline constexpr int kEnd = kUp + 5;
inline constexpr int kEscape = 27;
}  // namespace keys

// Which process: ids are used again.
using ProcessKey = std::pair<int64_t, int64_t>;  // pid, start_id
[[nodiscard]] inline ProcessKey key_of(const RunRecord& record) {
  return {record.pid, record.start_id};
}

// What a process's speed has been since its phase began.
struct SpeedHistory {
  std::string phase;
  std::deque<double> speeds;  // tok/s of every look, oldest first, MonitorState::kHistory at most
};

struct MonitorState {
  SortKey sort = SortKey::kPid;
  double interval = 1;  // seconds between two looks
  bool paused = false;
  bool help = false;
  Look look;  // the last one, sorted
  std::map<ProcessKey, SpeedHistory> histories;
  std::optional<ProcessKey> selected;           // of look; nullopt if that is empty
  std::optional<RunRecord> asked_to_terminate;  // waits for y or n
  std::string message;                          // what the last key did, or who has ended
  double message_until = 0;                     // a look at this time or later clears it; so does any key

  static constexpr size_t kHistory = 600;
};

// Index of the selected process in state.look.processes; 0 if there is none.
[[nodiscard]] size_t selected_index(const MonitorState& state);

// The speeds of a process in its phase; none if it has not been seen. The reference holds until the next look.
[[nodiscard]] const std::deque<double>& speeds_of(const MonitorState& state, const RunRecord& record);

// Takes in a new look; while paused it changes nothing.
void take_look(MonitorState& state, Look look);

// Shows a message for some seconds.
void show_message(MonitorState& state, std::string message);

// What the caller has to do about a key.
struct KeyEffect {
  enum class Kind { kNone, kQuit, kLook, kEmptyCache, kTerminate };
  Kind kind = Kind::kNone;  // kLook: look at once
  RunRecord target;         // of kEmptyCache and kTerminate
};

// up, down, j, k, page up and down, home, end: select; s: next sort key; p, space: pause; +, -: interval; e: empty
// cache; t: terminate, after y; h, ?: help; q: quit. Unknown keys do nothing.
KeyEffect press_key(MonitorState& state, int key);

}  // namespace xlstm
