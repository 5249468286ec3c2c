#include "xlstm/core/emergency_files.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <string>

namespace xlstm {
namespace {

enum class SlotState { kFree, kBeingWritten, kReady };

// Static memory: a signal handler can neither allocate nor wait for a lock.
struct Slot {
  std::atomic<SlotState> state{SlotState::kFree};
  std::array<char, 1024> path{};
};
static_assert(std::atomic<SlotState>::is_always_lock_free, "used in signal handlers");

std::array<Slot, 16> slots;

}  // namespace

EmergencyFile::EmergencyFile(const std::filesystem::path& path) noexcept : slot_(-1) {
  const std::string& text = path.native();
  if (text.size() >= slots[0].path.size()) return;
  for (size_t i = 0; i < slots.size(); ++i) {
    SlotState expected = SlotState::kFree;
    if (!slots[i].state.compare_exchange_strong(expected, SlotState::kBeingWritten)) continue;
    std::memcpy(slots[i].path.data(), text.c_str(), text.size() + 1);
    slots[i].state.store(SlotState::kReady);
    slot_ = static_cast<int>(i);
    return;
  }
}

EmergencyFile::~EmergencyFile() {
  if (slot_ >= 0) slots[static_cast<size_t>(slot_)].state.store(SlotState::kFree);
}

void remove_emergency_files() noexcept {
  // Later files first: a temporary file is registered behind the one that it shall replace, and must be gone before it,
  // or another thread may still put it in place.
  for (auto slot = slots.rbegin(); slot != slots.rend(); ++slot) {
    if (slot->state.load() == SlotState::kReady && ::unlink(slot->path.data()) != 0) ::rmdir(slot->path.data());
  }
}

}  // namespace xlstm
