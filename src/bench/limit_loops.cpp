#include "src/bench/limit_loops.h"

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/bench/limit_loops.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Far enough ahead that a line has arrived when its turn comes.
constexpr size_t kPrefetchAhead = 4096;
constexpr size_t kLine = 64;

uint64_t read_memory_simd(const std::byte* from, size_t bytes) {
  const hn::ScalableTag<uint64_t> words;
  const size_t step = hn::Lanes(words) * sizeof(uint64_t);
  auto a = hn::Zero(words);
  auto b = a;
  auto c = a;
  auto d = a;
  for (const std::byte* const end = from + bytes; from != end; from += kReadUnit) {
    for (size_t line = 0; line < kReadUnit; line += kLine) hwy::Prefetch(from + line + kPrefetchAhead);
    const auto* const data = reinterpret_cast<const uint64_t*>(from);
    const size_t stride = step / sizeof(uint64_t);
    for (size_t i = 0; i < kReadUnit / sizeof(uint64_t); i += 4 * stride) {
      a = hn::Xor(a, hn::Load(words, data + i));
      b = hn::Xor(b, hn::Load(words, data + i + stride));
      c = hn::Xor(c, hn::Load(words, data + i + 2 * stride));
      d = hn::Xor(d, hn::Load(words, data + i + 3 * stride));
    }
  }
  return hn::GetLane(hn::SumOfLanes(words, hn::Xor(hn::Xor(a, b), hn::Xor(c, d))));
}

// Two multiply-adds a cycle of four cycles each keep eight chains busy, four a cycle sixteen; 16 registers hold twelve.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kChains = 20;
#else
constexpr int kChains = 12;
#endif

double run_fma_simd(int64_t rounds) {
  const hn::ScalableTag<float> floats;
  using Vec = hn::Vec<decltype(floats)>;
  // Neither grows without bound nor decays into subnormals: the sums go to 1.
  const Vec factor = hn::Set(floats, 0.5F);
  const Vec addend = hn::Set(floats, 0.5F);
  Vec sums[kChains];
  HWY_UNROLL(32)
  for (int chain = 0; chain < kChains; ++chain) sums[chain] = hn::Set(floats, static_cast<float>(chain));
  for (int64_t round = 0; round < rounds; ++round) {
    HWY_UNROLL(32)
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = hn::MulAdd(sums[chain], factor, addend);
  }
  HWY_UNROLL(32)
  for (int chain = 1; chain < kChains; ++chain) sums[0] = hn::Add(sums[0], sums[chain]);
  // A sum of numbers from 0 to 20 is not negative, but the compiler cannot know.
  if (hn::GetLane(sums[0]) < 0) return 0;
  return static_cast<double>(rounds) * kChains * 2 * static_cast<double>(hn::Lanes(floats));
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

HWY_EXPORT(read_memory_simd);
HWY_EXPORT(run_fma_simd);

// Sixteen chains in registers 16 to 31, all zeros. In assembly, because g++ 12 moves the accumulators of the intrinsics
// to memory and back.
#if defined(__x86_64__)
#define XLSTM_DOT_CHAINS(INSTRUCTION)                                                                           \
  asm volatile(                                                                                                 \
      ".irp r,0,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"                                            \
      "vpxord %%zmm\\r,%%zmm\\r,%%zmm\\r\n\t"                                                                   \
      ".endr\n"                                                                                                 \
      "1:\n\t"                                                                                                  \
      ".irp r,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t" INSTRUCTION                                  \
      " %%zmm0,%%zmm0,%%zmm\\r\n\t"                                                                             \
      ".endr\n\t"                                                                                               \
      "dec %0\n\t"                                                                                              \
      "jnz 1b"                                                                                                  \
      : "+r"(rounds)                                                                                            \
      :                                                                                                         \
      : "cc", "xmm0", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31")
constexpr double kDotChains = 16;

__attribute__((target("avx512f"))) void run_dot_bfloat16(int64_t rounds) {
  XLSTM_DOT_CHAINS("vdpbf16ps");
}
__attribute__((target("avx512f"))) void run_dot_int8(int64_t rounds) {
  XLSTM_DOT_CHAINS("vpdpbusd");
}
#undef XLSTM_DOT_CHAINS
#endif

}  // namespace

uint64_t read_memory(const std::byte* from, size_t bytes) {
  XLSTM_ASSERT(bytes % kReadUnit == 0 && reinterpret_cast<uintptr_t>(from) % kReadUnit == 0);
  return HWY_DYNAMIC_DISPATCH(read_memory_simd)(from, bytes);
}

const char* peak_name(PeakKind kind) {
  switch (kind) {
    case PeakKind::kFmaFloat32: return "fma_float32";
    case PeakKind::kDotBfloat16: return "dot_bfloat16";
    case PeakKind::kDotInt8: return "dot_int8";
  }
  return "";
}

bool has_peak(PeakKind kind) {
  switch (kind) {
    case PeakKind::kFmaFloat32: return true;
    case PeakKind::kDotBfloat16: return has_avx512_bf16();
    case PeakKind::kDotInt8: return has_avx512_vnni();
  }
  return false;
}

double run_peak(PeakKind kind, int64_t rounds) {
  XLSTM_ASSERT(has_peak(kind) && rounds > 0);
#if defined(__x86_64__)
  constexpr double kLanes = 16;
  const double instructions = kDotChains * static_cast<double>(rounds);
  if (kind == PeakKind::kDotBfloat16) {
    run_dot_bfloat16(rounds);
    return instructions * kLanes * 2 * 2;
  }
  if (kind == PeakKind::kDotInt8) {
    run_dot_int8(rounds);
    return instructions * kLanes * 4 * 2;
  }
#endif
  return HWY_DYNAMIC_DISPATCH(run_fma_simd)(rounds);
}

}  // namespace xlstm
#endif
