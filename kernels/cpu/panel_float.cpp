#include "kernels/cpu/panel_float.h"

#include <algorithm>

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panel_float.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "hwy/cache_control.h"
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Rows of one call, and sums of one pass over a panel, so that they fit into the registers: 32 of them with AVX-512 and
// on arm64, 16 otherwise.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
constexpr int kMostRows = 12;
constexpr int kMostSums = 24;
#elif HWY_ARCH_ARM_A64
constexpr int kMostRows = 6;
constexpr int kMostSums = 24;
#else
constexpr int kMostRows = kLanes >= 8 ? 6 : kLanes >= 4 ? 3 : 1;
constexpr int kMostSums = 8;
#endif

constexpr hn::Rebind<uint32_t, FloatTag> kWords{};
using WordVec = hn::Vec<decltype(kWords)>;

template <int kRows, int kVecs>
using Sums = FloatVec[kRows][kVecs];

// Weights of consecutive inputs, `stride` bytes from one input (bfloat16: pair of inputs) to the next.
struct Stream {
  const std::byte* at = nullptr;
  int64_t stride = 0;
};

HWY_INLINE void prefetch_columns(const std::byte* at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) hwy::Prefetch(at + kPrefetchBytes + i);
}

template <int kRows, int kVecs>
HWY_INLINE void add_input(const FloatVec (&weights)[kVecs], const float* x, Sums<kRows, kVecs>& sums) {
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    const FloatVec input = hn::Set(kFloat, x[r]);
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) sums[r][v] = hn::MulAdd(weights[v], input, sums[r][v]);
  }
}

template <class T, int kRows, int kVecs>
HWY_INLINE void add_inputs(Stream w, const float* x, int64_t inputs, Sums<kRows, kVecs>& sums) {
  for (int64_t k = 0; k < inputs; ++k, w.at += w.stride, x += kRows) {
    prefetch_columns(w.at, kVecs * kLanes * static_cast<int64_t>(sizeof(T)));
    FloatVec weights[kVecs];
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) weights[v] = load(reinterpret_cast<const T*>(w.at) + v * kLanes);
    add_input<kRows, kVecs>(weights, x, sums);
  }
}

// A word holds the weights of an even input (low half) and the odd one behind it.
template <int kRows, int kVecs>
HWY_INLINE void add_bfloat16_pairs(Stream w, const float* x, int64_t inputs, Sums<kRows, kVecs>& sums) {
  const WordVec upper = hn::Set(kWords, 0xFFFF0000U);
  for (int64_t k = 0; k < inputs; k += 2, w.at += w.stride, x += 2 * kRows) {
    prefetch_columns(w.at, kVecs * kLanes * 4);
    FloatVec even[kVecs];
    FloatVec odd[kVecs];
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) {
      const WordVec word = hn::LoadU(kWords, reinterpret_cast<const uint32_t*>(w.at) + v * kLanes);
      even[v] = hn::BitCast(kFloat, hn::ShiftLeft<16>(word));
      odd[v] = hn::BitCast(kFloat, hn::And(word, upper));
    }
    add_input<kRows, kVecs>(even, x, sums);
    add_input<kRows, kVecs>(odd, x + kRows, sums);
  }
}

// A quantized weight is scale · code + offset, with offset = -scale · zero.
template <bool kInt4, int kVecs>
HWY_INLINE void load_scale(const Float16* scales, const uint8_t* zeros, FloatVec (&scale)[kVecs],
                           FloatVec (&offset)[kVecs]) {
  HWY_UNROLL(16)
  for (int v = 0; v < kVecs; ++v) {
    FloatVec zero = hn::Set(kFloat, 128.0F);
    if constexpr (kInt4) {
      float values[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) values[i] = static_cast<float>(zeros[v * kLanes + i]);
      zero = load(values);
    }
    scale[v] = load(scales + v * kLanes);
    offset[v] = hn::Neg(hn::Mul(scale[v], zero));
  }
}

template <bool kInt4, int kRows, int kVecs>
HWY_INLINE void add_group(Stream w, const float* x, int64_t inputs, const FloatVec (&scale)[kVecs],
                          const FloatVec (&offset)[kVecs], Sums<kRows, kVecs>& sums) {
  const hn::RebindToSigned<decltype(kWords)> signed_words;
  constexpr int64_t kPerWord = kInt4 ? 8 : 4;
  const WordVec mask = hn::Set(kWords, kInt4 ? 15U : 255U);
  for (int64_t k = 0; k < inputs; k += kPerWord, w.at += w.stride, x += kPerWord * kRows) {
    prefetch_columns(w.at, kVecs * kLanes * 4);
    WordVec words[kVecs];
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) {
      words[v] = hn::LoadU(kWords, reinterpret_cast<const uint32_t*>(w.at) + v * kLanes);
    }
    for (int i = 0; i < kPerWord; ++i) {
      const int shift = kInt4 ? i % 4 * 8 + i / 4 * 4 : i * 8;
      FloatVec weights[kVecs];
      HWY_UNROLL(16)
      for (int v = 0; v < kVecs; ++v) {
        const WordVec code = hn::And(hn::ShiftRightSame(words[v], shift), mask);
        weights[v] = hn::MulAdd(hn::ConvertTo(kFloat, hn::BitCast(signed_words, code)), scale[v], offset[v]);
      }
      add_input<kRows, kVecs>(weights, x + i * kRows, sums);
    }
  }
}

template <bool kInt4, int kRows, int kVecs>
HWY_INLINE void add_quantized(const PanelArgs& args, int64_t column, Sums<kRows, kVecs>& sums) {
  const PanelLayout& layout = *args.layout;
  constexpr int64_t kPerWord = kInt4 ? 8 : 4;
  const auto* scales = reinterpret_cast<const Float16*>(args.panel) + column;
  const auto* zeros = reinterpret_cast<const uint8_t*>(args.panel + layout.groups() * args.width * 2) + column;
  Stream codes{args.panel + layout.header_bytes(args.width) + column * 4, args.width * 4};
  const auto* x = static_cast<const float*>(args.x);
  for (int64_t begin = 0; begin < layout.in; begin += layout.group) {
    const int64_t inputs = std::min(layout.group, layout.in - begin);
    FloatVec scale[kVecs];
    FloatVec offset[kVecs];
    load_scale<kInt4, kVecs>(scales, zeros, scale, offset);
    add_group<kInt4, kRows, kVecs>(codes, x, inputs, scale, offset, sums);
    codes.at += inputs / kPerWord * codes.stride;
    x += inputs * kRows;
    scales += args.width;
    zeros += args.width;
  }
}

template <WeightFormat kFormat, int kRows, int kVecs>
void run_columns(const PanelArgs& args, int64_t column) {
  Sums<kRows, kVecs> sums;
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) sums[r][v] = hn::Zero(kFloat);
  }
  const auto* x = static_cast<const float*>(args.x);
  const int64_t in = args.layout->in;
  if constexpr (kFormat == WeightFormat::kFloat32) {
    add_inputs<float, kRows, kVecs>({args.panel + column * 4, args.width * 4}, x, in, sums);
  } else if constexpr (kFormat == WeightFormat::kFloat16) {
    add_inputs<Float16, kRows, kVecs>({args.panel + column * 2, args.width * 2}, x, in, sums);
  } else if constexpr (kFormat == WeightFormat::kBfloat16) {
    add_bfloat16_pairs<kRows, kVecs>({args.panel + column * 4, args.width * 4}, x, in, sums);
  } else {
    add_quantized<kFormat == WeightFormat::kInt4, kRows, kVecs>(args, column, sums);
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) store(sums[r][v], args.out + r * kPanelWidth + column + v * kLanes);
  }
}

template <WeightFormat kFormat, int kRows>
void run_rows(int rows, const PanelArgs& args) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return run_rows<kFormat, kRows - 1>(rows, args);
  }
  // The whole width in one pass, so that the panel is read as one stream, or half of it after the other.
  constexpr int kWholeVecs = static_cast<int>(kPanelWidth / kLanes);
  if constexpr (kRows * kWholeVecs <= kMostSums) {
    if (args.width == kPanelWidth) return run_columns<kFormat, kRows, kWholeVecs>(args, 0);
  }
  for (int64_t column = 0; column < args.width; column += kNarrowWidth) {
    run_columns<kFormat, kRows, kNarrowWidth / kLanes>(args, column);
  }
}

PanelKernel pick_float_kernel(WeightFormat format) {
  PanelKernel kernel{InputKind::kFloat32, kMostRows, nullptr};
  switch (format) {
    case WeightFormat::kFloat32: kernel.run = run_rows<WeightFormat::kFloat32, kMostRows>; break;
    case WeightFormat::kFloat16: kernel.run = run_rows<WeightFormat::kFloat16, kMostRows>; break;
    case WeightFormat::kBfloat16: kernel.run = run_rows<WeightFormat::kBfloat16, kMostRows>; break;
    case WeightFormat::kInt8: kernel.run = run_rows<WeightFormat::kInt8, kMostRows>; break;
    case WeightFormat::kInt4: kernel.run = run_rows<WeightFormat::kInt4, kMostRows>; break;
  }
  return kernel;
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(pick_float_kernel);

PanelKernel float_kernel(const PanelLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(pick_float_kernel)(layout.format);
}

}  // namespace xlstm::cpu
#endif
