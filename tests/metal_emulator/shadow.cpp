#include "shadow.h"

#include "worker.h"

namespace xlstm::emulator {
namespace {

bool same_simdgroup(const Stamp& a, const Stamp& b) {
  return a.thread / kLanes == b.thread / kLanes;
}

// `before` is of one thread of the same threadgroup.
bool ordered(const Stamp& before, const Stamp& now) {
  return before.thread == now.thread || before.barriers < now.barriers ||
         (same_simdgroup(before, now) && before.simd_barriers < now.simd_barriers);
}

}  // namespace

void Shadow::resize(size_t bytes, size_t element) {
  const size_t count = (bytes + element - 1) / element;
  element_ = element;
  if (cells_.size() < count) cells_.resize(count);
}

Shadow::Conflict Shadow::Cell::write(const Stamp& now, uint32_t first_group) {
  if (written.group >= first_group && (written.group != now.group || !ordered(written, now)))
    return Conflict::kWithWrite;
  if (seen.group >= first_group) {
    const bool other_group = seen.group != now.group || seen.readers == kMore;
    if (other_group) return Conflict::kWithRead;
    if (seen.barriers == now.barriers) {
      if (seen.readers == kOneThreadgroup) return Conflict::kWithRead;
      if (seen.readers == kOneSimdgroup && (!same_simdgroup(seen, now) || seen.simd_barriers == now.simd_barriers)) {
        return Conflict::kWithRead;
      }
      if (seen.readers == kOne && !ordered(seen, now)) return Conflict::kWithRead;
    }
  }
  written = now;
  seen.group = 0;
  return Conflict::kNone;
}

Shadow::Conflict Shadow::Cell::read(const Stamp& now, uint32_t first_group) {
  if (written.group >= first_group && (written.group != now.group || !ordered(written, now)))
    return Conflict::kWithWrite;
  if (seen.group < first_group || (seen.group == now.group && seen.barriers < now.barriers)) {
    seen = now;
    seen.readers = kOne;
  } else if (seen.group != now.group) {
    seen.readers = kMore;
  } else if (!same_simdgroup(seen, now)) {
    if (seen.readers < kOneThreadgroup) seen.readers = kOneThreadgroup;
  } else if (seen.readers <= kOneSimdgroup &&
             (seen.thread == now.thread ? seen.readers == kOne : seen.simd_barriers < now.simd_barriers)) {
    seen = now;
    seen.readers = kOne;
  } else if (seen.readers == kOne) {
    seen.readers = kOneSimdgroup;
  }
  return Conflict::kNone;
}

std::string Shadow::describe(Conflict conflict, size_t index, bool write, const Stamp& now) const {
  const Stamp& other = conflict == Conflict::kWithWrite ? cells_[index].written : cells_[index].seen;
  std::string who =
      "simdgroup " + std::to_string(other.thread / kLanes) + ", lane " + std::to_string(other.thread % kLanes);
  if (other.group != now.group) who += " of another threadgroup";
  return std::string(write ? "writes" : "reads") + " element " + std::to_string(index) + ", which " + who +
         (conflict == Conflict::kWithWrite ? " wrote" : " read") + " with no barrier between: a race";
}

}  // namespace xlstm::emulator
