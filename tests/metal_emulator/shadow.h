// Who accessed the bytes of an array last: finds data races and reads of what was never written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace xlstm::emulator {

// When and by whom: two accesses of a dispatch are ordered if they are of one thread, of one threadgroup with a
// threadgroup_barrier between them, or of one simdgroup with a simdgroup_barrier between them.
struct Stamp {
  uint32_t group = 0;     // number of the threadgroup, over all dispatches; 0: never
  uint32_t barriers = 0;  // of the threadgroup so far, for this kind of memory
  uint32_t simd_barriers = 0;
  uint16_t thread = 0;
  uint16_t readers = 0;  // who read since the last write: kOne is `thread`, others are more
};

class Shadow {
 public:
  // For `bytes` bytes of elements of `element` bytes (1, 2 or 4).
  void resize(size_t bytes, size_t element);

  // Notes an access of `now` to bytes [offset, offset + bytes). False if it is wrong: then `wrong` says why. Stamps of
  // groups before `first_group` are of earlier dispatches.
  bool access(size_t offset, size_t bytes, bool write, const Stamp& now, uint32_t first_group, bool must_be_written,
              std::string& wrong) {
    const size_t last = (offset + bytes - 1) / element_;
    for (size_t i = offset / element_; i <= last; ++i) {
      const Conflict conflict = write ? cells_[i].write(now, first_group) : cells_[i].read(now, first_group);
      if (conflict != Conflict::kNone) [[unlikely]] {
        wrong = describe(conflict, i, write, now);
        return false;
      }
      if (must_be_written && !write && cells_[i].written.group != now.group) [[unlikely]] {
        wrong = "reads element " + std::to_string(i) + " before it was written";
        return false;
      }
    }
    return true;
  }

 private:
  enum Readers : uint16_t { kOne, kOneSimdgroup, kOneThreadgroup, kMore };
  enum class Conflict { kNone, kWithWrite, kWithRead };

  struct Cell {
    Stamp written;
    Stamp seen;  // the reads since

    Conflict write(const Stamp& now, uint32_t first_group);
    Conflict read(const Stamp& now, uint32_t first_group);
  };

  [[nodiscard]] std::string describe(Conflict conflict, size_t index, bool write, const Stamp& now) const;

  size_t element_ = 4;
  std::vector<Cell> cells_;
};

}  // namespace xlstm::emulator
