#include "xlstm/core/emergency_files.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

namespace xlstm {
namespace {

enum class SlotState { kFree, kBeingWritten, kReady };

// Static memory: a signal handler can neither allocate nor wait for a lock.
struct Slot {
  std::atomic<SlotState> state{SlotState::kFree};
  std::atomic<uint64_t> number{0};  // of its registration
  std::array<char, 1024> path{};
};
static_assert(std::atomic<SlotState>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "used in signal handlers");

std::array<Slot, kMaxEmergencyFiles> slots;
std::atomic<uint64_t> registrations{0};

// The latest of those registered before `number`; null if there is none.
Slot* latest_before(uint64_t number) {
  Slot* latest = nullptr;
  for (Slot& slot : slots) {
    if (slot.state.load() != SlotState::kReady || slot.number.load() >= number) continue;
    if (latest == nullptr || slot.number.load() > latest->number.load()) latest = &slot;
  }
  return latest;
}

}  // namespace

EmergencyFile::EmergencyFile(const std::filesystem::path& path) noexcept : slot_(-1) {
  const std::string& text = path.native();
  if (text.size() >= slots[0].path.size()) return;
  for (size_t i = 0; i < slots.size(); ++i) {
    SlotState expected = SlotState::kFree;
    if (!slots[i].state.compare_exchange_strong(expected, SlotState::kBeingWritten)) continue;
    std::memcpy(slots[i].path.data(), text.c_str(), text.size() + 1);
    slots[i].number.store(++registrations);
    slots[i].state.store(SlotState::kReady);
    slot_ = static_cast<int>(i);
    return;
  }
}

EmergencyFile::~EmergencyFile() {
  if (slot_ >= 0) slots[static_cast<size_t>(slot_)].state.store(SlotState::kFree);
}

void remove_emergency_files() noexcept {
  // Another thread may create a registered file between the removal of those in a directory and its own: then once
  // more.
  constexpr int kPasses = 100;
  bool again = true;
  for (int pass = 0; again && pass < kPasses; ++pass) {
    again = false;
    // Later ones first: a directory must be empty, and a temporary file must be gone before the one that it shall
    // replace, or another thread may still put it in place.
    uint64_t number = UINT64_MAX;
    while (const Slot* const slot = latest_before(number)) {
      number = slot->number.load();
      if (::unlink(slot->path.data()) == 0 || errno == ENOENT) continue;
      if (::rmdir(slot->path.data()) != 0 && errno == ENOTEMPTY) again = true;
    }
  }
}

}  // namespace xlstm
