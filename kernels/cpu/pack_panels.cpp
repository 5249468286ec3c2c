#include "kernels/cpu/pack_panels.h"

#include <algorithm>
#include <cstring>

namespace xlstm::cpu {
namespace {

// Rows of one panel; those beyond the matrix are not read.
struct PanelRows {
  int64_t first = 0;
  int64_t count = 0;  // that exist
  int64_t width = 0;
};

// Inputs are taken this many bytes of a row at a time, so that the lines read of all rows stay in the cache while their
// pieces are spread.
constexpr int64_t kStripeBytes = 64;

// Units of sizeof(Unit) bytes along the rows, transposed: to[unit][row].
template <class Unit>
void transpose(const char* rows, int64_t row_bytes, const PanelRows& panel, std::byte* to) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(Unit));
  const int64_t whole = row_bytes / kSize;
  const int64_t units = (row_bytes + kSize - 1) / kSize;
  auto* const out = reinterpret_cast<Unit*>(to);
  if (panel.count < panel.width) std::memset(to, 0, static_cast<size_t>(units * panel.width * kSize));
  constexpr int64_t kStripe = kStripeBytes / kSize;
  for (int64_t begin = 0; begin < whole; begin += kStripe) {
    const int64_t end = std::min(whole, begin + kStripe);
    for (int64_t r = 0; r < panel.count; ++r) {
      const char* row = rows + (panel.first + r) * row_bytes;
      for (int64_t unit = begin; unit < end; ++unit) {
        std::memcpy(out + unit * panel.width + r, row + unit * kSize, sizeof(Unit));
      }
    }
  }
  if (whole == units) return;
  for (int64_t r = 0; r < panel.count; ++r) {
    Unit last = 0;
    std::memcpy(&last, rows + (panel.first + r) * row_bytes + whole * kSize, static_cast<size_t>(row_bytes % kSize));
    std::memcpy(out + whole * panel.width + r, &last, sizeof(Unit));
  }
}

template <class T>
void transpose_header(const T* from, int64_t groups, const PanelRows& panel, T* to) {
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < panel.width; ++r) {
      to[g * panel.width + r] = r < panel.count ? from[(panel.first + r) * groups + g] : T{0};
    }
  }
}

void pack_int8(const PanelLayout& layout, const CanonicalMatrix& matrix, const PanelRows& panel, std::byte* to) {
  transpose<uint32_t>(static_cast<const char*>(matrix.weight), layout.in, panel, to);
  // q + 128 in all bytes: two's complement with the sign bit turned.
  const int64_t words = layout.code_bytes(panel.width) / 4;
  auto* const codes = reinterpret_cast<uint32_t*>(to);
  for (int64_t i = 0; i < words; ++i) codes[i] ^= 0x80808080U;
}

// Eight canonical nibbles (input i in bits 4i … 4i+3) into the order of the panel: inputs b and b + 4 in byte b.
uint32_t spread_nibbles(uint32_t nibbles) {
  uint32_t word = 0;
  for (int b = 0; b < 4; ++b) {
    const uint32_t low = nibbles >> (4 * b) & 15U;
    const uint32_t high = nibbles >> (4 * b + 16) & 15U;
    word |= (low | high << 4) << (8 * b);
  }
  return word;
}

void pack_int4(const PanelLayout& layout, const CanonicalMatrix& matrix, const PanelRows& panel, std::byte* to) {
  transpose<uint32_t>(static_cast<const char*>(matrix.weight), (layout.in + 1) / 2, panel, to);
  const int64_t words = layout.code_bytes(panel.width) / 4;
  auto* const codes = reinterpret_cast<uint32_t*>(to);
  for (int64_t i = 0; i < words; ++i) codes[i] = spread_nibbles(codes[i]);
}

}  // namespace

void pack_panel(const PanelLayout& layout, const CanonicalMatrix& matrix, int64_t panel, std::byte* to) {
  PanelRows rows;
  rows.first = panel * kPanelWidth;
  rows.count = std::min(kPanelWidth, layout.out - rows.first);
  rows.width = layout.width(panel);
  const auto* weight = static_cast<const char*>(matrix.weight);
  if (is_quantized(layout.format)) {
    const int64_t groups = layout.groups();
    transpose_header(matrix.scale, groups, rows, reinterpret_cast<uint16_t*>(to));
    if (layout.format == WeightFormat::kInt4) {
      transpose_header(matrix.zero, groups, rows, reinterpret_cast<uint8_t*>(to) + groups * rows.width * 2);
    }
  }
  std::byte* const codes = to + layout.header_bytes(rows.width);
  switch (layout.format) {
    case WeightFormat::kFloat32: return transpose<uint32_t>(weight, layout.in * 4, rows, codes);
    case WeightFormat::kBfloat16: return transpose<uint32_t>(weight, layout.in * 2, rows, codes);
    case WeightFormat::kFloat16: return transpose<uint16_t>(weight, layout.in * 2, rows, codes);
    case WeightFormat::kInt8: return pack_int8(layout, matrix, rows, codes);
    case WeightFormat::kInt4: return pack_int4(layout, matrix, rows, codes);
  }
}

}  // namespace xlstm::cpu
