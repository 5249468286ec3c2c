#include "kernels/cpu/panel_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "hwy/base.h"

#if defined(__GNUC__) && !defined(__clang__)
// g++'s own intrinsics begin with an undefined register.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,f16c,fma")

namespace xlstm::cpu {
namespace {

// 24 accumulators of two vectors a row, two vectors of weights and a broadcast fit into 32 registers; with a float
// accumulator beside each integer one, half of that.
constexpr int kMostRows = 12;
constexpr int kMostGroupedRows = 6;

constexpr int64_t kVectorBytes = 64;

// Fetches the next lines of the stream. It runs over the scales of a panel as over its codes, a little ahead of both.
template <int kLines>
inline void fetch(const std::byte*& ahead) {
  HWY_UNROLL(16)
  for (int line = 0; line < kLines; ++line) {
    _mm_prefetch(reinterpret_cast<const char*>(ahead + line * kVectorBytes), _MM_HINT_T0);
  }
  ahead += kLines * kVectorBytes;
}

template <int kRows, int kVecs>
inline void store(const __m512 (&sums)[kRows][kVecs], float* out) {
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) _mm512_storeu_ps(out + r * kPanelWidth + v * 16, sums[r][v]);
  }
}

// ---- bfloat16 ----

template <int kRows, int kVecs>
void bfloat16_panel(const PanelArgs& args) {
  __m512 sums[kRows][kVecs];
  HWY_UNROLL(16)
  for (auto& row : sums) {
    HWY_UNROLL(16)
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  const std::byte* w = args.panel;
  const std::byte* ahead = w + kPrefetchBytes;
  const auto* x = static_cast<const int32_t*>(args.x);
  const int64_t units = (args.layout->in + 1) / 2;
  for (int64_t unit = 0; unit < units; ++unit) {
    fetch<kVecs>(ahead);
    __m512bh weights[kVecs];
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) {
      weights[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + v * kVectorBytes));
    }
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(x[r]));
      HWY_UNROLL(16)
      for (int v = 0; v < kVecs; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], weights[v], pair);
    }
    w += kVecs * kVectorBytes;
    x += kRows;
  }
  store(sums, args.out);
}

// ---- int8 and int4 ----

// sum += Σ of four products of unsigned and signed bytes. The intrinsic makes g++ 12 keep accumulators in memory.
inline void dot(__m512i& sum, __m512i codes, __m512i inputs) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(inputs));
}

// A few rows wait for the sum of the step before; integer sums may be split without changing the result.
template <int kRows>
constexpr int kChains = kRows <= 2 ? 2 : 1;

template <int kRows, int kVecs>
using IntSums = __m512i[kRows][kVecs][kChains<kRows>];

// Four inputs of int8 codes.
template <int kRows, int kVecs>
inline void add_int8(const std::byte* w, const int32_t* x, int chain, IntSums<kRows, kVecs>& sums) {
  __m512i codes[kVecs];
  HWY_UNROLL(16)
  for (int v = 0; v < kVecs; ++v) codes[v] = _mm512_loadu_si512(w + v * kVectorBytes);
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    const __m512i inputs = _mm512_set1_epi32(x[r]);
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) dot(sums[r][v][chain], codes[v], inputs);
  }
}

// Eight inputs of int4 codes.
template <int kRows, int kVecs>
inline void add_int4(const std::byte* w, const int32_t* x, IntSums<kRows, kVecs>& sums) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i low[kVecs];
  __m512i high[kVecs];
  HWY_UNROLL(16)
  for (int v = 0; v < kVecs; ++v) {
    const __m512i codes = _mm512_loadu_si512(w + v * kVectorBytes);
    low[v] = _mm512_and_si512(codes, nibble);
    high[v] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    const __m512i first = _mm512_set1_epi32(x[r]);
    const __m512i second = _mm512_set1_epi32(x[kRows + r]);
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) {
      dot(sums[r][v][0], low[v], first);
      dot(sums[r][v][kChains<kRows> - 1], high[v], second);
    }
  }
}

struct Stream {
  const std::byte* w;      // codes
  const std::byte* ahead;  // what is fetched
  const int32_t* x;
};

// One group of columns: the integer sums Σ code · x.
template <bool kInt4, int kRows, int kVecs>
inline void add_group(Stream& stream, int64_t inputs, IntSums<kRows, kVecs>& sums) {
  HWY_UNROLL(16)
  for (auto& row : sums) {
    HWY_UNROLL(16)
    for (auto& vec : row) {
      HWY_UNROLL(16)
      for (__m512i& sum : vec) sum = _mm512_setzero_si512();
    }
  }
  // Copies, which the compiler keeps in registers.
  auto [w, ahead, x] = stream;
  if constexpr (kInt4) {
    for (int64_t k = 0; k < inputs; k += 8) {
      fetch<kVecs>(ahead);
      add_int4<kRows, kVecs>(w, x, sums);
      w += kVecs * kVectorBytes;
      x += 2 * kRows;
    }
  } else {
    constexpr int kSteps = kChains<kRows>;
    int64_t k = 0;
    for (; k + 4 * kSteps <= inputs; k += 4 * kSteps) {
      HWY_UNROLL(16)
      for (int step = 0; step < kSteps; ++step) {
        fetch<kVecs>(ahead);
        add_int8<kRows, kVecs>(w, x, step, sums);
        w += kVecs * kVectorBytes;
        x += kRows;
      }
    }
    for (; k < inputs; k += 4) {
      add_int8<kRows, kVecs>(w, x, 0, sums);
      w += kVecs * kVectorBytes;
      x += kRows;
    }
  }
  stream = {w, ahead, x};
}

// Σ (code - zero) · x of one vector of outputs, where int8 has zero 128. The integer sums are exact; turned to float
// they are rounded from 2^24 on.
template <bool kInt4, int kChainCount>
inline __m512 centred(const __m512i (&chains)[kChainCount], int32_t x_sum, __m512 zero) {
  __m512i sum = chains[0];
  if constexpr (kChainCount == 2) sum = _mm512_add_epi32(sum, chains[1]);
  if constexpr (kInt4) {
    return _mm512_fnmadd_ps(zero, _mm512_set1_ps(static_cast<float>(x_sum)), _mm512_cvtepi32_ps(sum));
  } else {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(128 * x_sum)));
  }
}

// kOne: a single group, so that no float sums are needed beside the integer ones.
template <bool kInt4, bool kOne, int kRows, int kVecs>
void int_panel(const PanelArgs& args) {
  const PanelLayout& layout = *args.layout;
  constexpr int64_t kWidth = kVecs * 16;
  const int64_t groups = kOne ? 1 : layout.groups();
  const std::byte* scales = args.panel;
  const std::byte* zeros = scales + groups * kWidth * 2;
  Stream stream{args.panel + layout.header_bytes(kWidth), args.panel + kPrefetchBytes,
                static_cast<const int32_t*>(args.x)};

  __m512 sums[kRows][kVecs];
  HWY_UNROLL(16)
  for (auto& row : sums) {
    HWY_UNROLL(16)
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  for (int64_t g = 0; g < groups; ++g) {
    IntSums<kRows, kVecs> codes;
    const int64_t inputs = kOne ? layout.in : std::min(layout.group, layout.in - g * layout.group);
    add_group<kInt4, kRows, kVecs>(stream, inputs, codes);
    // A group's share of the scales and zeros, up to 96 bytes.
    const std::byte* header = stream.ahead;
    fetch<kInt4 && kVecs == 2 ? 2 : 1>(header);
    stream.ahead += kWidth * (kInt4 ? 3 : 2);
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) {
      const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + v * 32)));
      __m512 zero = _mm512_setzero_ps();
      if constexpr (kInt4) {
        zero =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros + v * 16))));
      }
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        const __m512 sum = centred<kInt4>(codes[r][v], args.x_sum[g * kRows + r], zero);
        sums[r][v] = kOne ? _mm512_mul_ps(sum, scale) : _mm512_fmadd_ps(sum, scale, sums[r][v]);
      }
    }
    scales += kWidth * 2;
    zeros += kWidth;
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (__m512& sum : sums[r]) sum = _mm512_mul_ps(sum, _mm512_set1_ps(args.x_scale[r]));
  }
  store(sums, args.out);
}

// ---- choosing ----

// Calls Kernel::run<rows, vectors of a panel>() for a row count known at run time.
template <class Kernel, int kRows>
void for_rows(int rows, const PanelArgs& args) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return for_rows<Kernel, kRows - 1>(rows, args);
  }
  if (args.width == kPanelWidth) {
    Kernel::template run<kRows, 2>(args);
  } else {
    Kernel::template run<kRows, 1>(args);
  }
}

struct Bfloat16Panel {
  template <int kRows, int kVecs>
  static void run(const PanelArgs& args) {
    bfloat16_panel<kRows, kVecs>(args);
  }
};

template <bool kInt4, bool kOne>
struct IntPanel {
  template <int kRows, int kVecs>
  static void run(const PanelArgs& args) {
    int_panel<kInt4, kOne, kRows, kVecs>(args);
  }
};

}  // namespace

PanelKernel bfloat16_dot_kernel() {
  return {InputKind::kBfloat16, kMostRows, for_rows<Bfloat16Panel, kMostRows>};
}

PanelKernel int8_dot_kernel(const PanelLayout& layout) {
  const bool one = layout.groups() == 1;
  if (layout.format == WeightFormat::kInt4) {
    return one ? PanelKernel{InputKind::kInt8, kMostGroupedRows, for_rows<IntPanel<true, true>, kMostGroupedRows>}
               : PanelKernel{InputKind::kInt8, kMostGroupedRows, for_rows<IntPanel<true, false>, kMostGroupedRows>};
  }
  return one ? PanelKernel{InputKind::kInt8, kMostRows, for_rows<IntPanel<false, true>, kMostRows>}
             : PanelKernel{InputKind::kInt8, kMostGroupedRows, for_rows<IntPanel<false, false>, kMostGroupedRows>};
}

}  // namespace xlstm::cpu

HWY_POP_ATTRIBUTES

#else

namespace xlstm::cpu {

PanelKernel bfloat16_dot_kernel() {
  return {};
}

PanelKernel int8_dot_kernel(const PanelLayout& /*layout*/) {
  return {};
}

}  // namespace xlstm::cpu

#endif
