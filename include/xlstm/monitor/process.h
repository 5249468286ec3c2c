// Which process a process id stands for: ids are used again, start times are not.
#pragma once

#include <cstdint>

namespace xlstm {

struct ProcessState {
  bool alive = false;    // exists and is no zombie
  int64_t start_id = 0;  // when it started, in units of the system's own, only good for comparing; 0: not known
};

// Thread-safe. `pid` of 0 or less is no process.
[[nodiscard]] ProcessState process_state(int64_t pid);

// Whether a record that names `start_id` (0: it did not know) can be about the process that `pid` stands for now.
[[nodiscard]] inline bool is_same_process(const ProcessState& state, int64_t start_id) {
  return state.alive && (state.start_id == start_id || state.start_id == 0 || start_id == 0);
}

}  // namespace xlstm
