// Memory that grows to the largest request and is then reused.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace xlstm::cpu {

class Scratch {
 public:
  // `count` floats on a cache line boundary, contents undefined; valid until the next call.
  [[nodiscard]] float* floats(int64_t count) {
    if (count > capacity_) {
      memory_.reset();
      capacity_ = 0;
      const auto bytes = static_cast<size_t>(count) * sizeof(float);
      memory_.reset(static_cast<float*>(::operator new(bytes, kAlignment)));
      capacity_ = count;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t capacity_ = 0;
};

// Hands out consecutive pieces of one scratch block, each padded to a cache line.
class ScratchPlan {
 public:
  static constexpr int64_t kLine = 16;
  [[nodiscard]] static constexpr int64_t padded(int64_t count) { return (count + kLine - 1) / kLine * kLine; }

  explicit ScratchPlan(float* memory) : next_(memory) {}
  [[nodiscard]] float* take(int64_t count) {
    float* piece = next_;
    next_ += padded(count);
    return piece;
  }

 private:
  float* next_;
};

}  // namespace xlstm::cpu
