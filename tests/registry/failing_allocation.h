// Lets aligned allocations of a thread fail, in the program that links failing_allocation.cpp.
#pragma once

namespace xlstm::test {

// As long as the object lives, operator new for over-aligned memory throws std::bad_alloc on this thread.
class AlignedAllocationsFail {
 public:
  AlignedAllocationsFail();
  ~AlignedAllocationsFail();
  AlignedAllocationsFail(const AlignedAllocationsFail&) = delete;
  AlignedAllocationsFail& operator=(const AlignedAllocationsFail&) = delete;
};

}  // namespace xlstm::test
