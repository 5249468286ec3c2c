#include "kernels/cpu/cpu_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/pack_panels.h"
#include "kernels/cpu/team.h"
#include "kernels/element_type.h"
#include "xlstm/core/errors.h"

namespace xlstm::cpu {
namespace {

constexpr int64_t kMostBlockRows = kRowGrain;
constexpr const char* kWhere = "CPU kernels";

int64_t halves_of(RowOrder order) {
  return order == RowOrder::kGateUp ? 2 : 1;
}

PanelLayout layout_of(const Linear& linear, RowOrder order) {
  return {linear.format, linear.out / halves_of(order), linear.in, linear.group};
}

// First byte of panel `panel` of half `half`.
int64_t offset_of(const PanelLayout& layout, int64_t halves, int64_t panel, int64_t half) {
  return halves * layout.offset(panel) + half * layout.panel_bytes(layout.width(panel));
}

struct Canonical {
  at::Tensor weight, scale, zero;

  [[nodiscard]] CanonicalMatrix rows_from(int64_t row) const {
    CanonicalMatrix matrix;
    const auto row_bytes = static_cast<int64_t>(weight.element_size()) * weight.size(1);
    matrix.weight = static_cast<const char*>(weight.const_data_ptr()) + row * row_bytes;
    if (scale.defined()) matrix.scale = static_cast<const uint16_t*>(scale.const_data_ptr()) + row * scale.size(1);
    if (zero.defined()) matrix.zero = static_cast<const uint8_t*>(zero.const_data_ptr()) + row * zero.size(1);
    return matrix;
  }
};

Canonical canonical_tensors(const Linear& linear) {
  require_type(linear.weight, element_type(linear.format), "weight dtype", kWhere);
  const int64_t columns = linear.format == WeightFormat::kInt4 ? (linear.in + 1) / 2 : linear.in;
  XLSTM_ASSERT(linear.weight.dim() == 2 && linear.weight.size(0) == linear.out && linear.weight.size(1) == columns);
  Canonical out{linear.weight.contiguous(), {}, {}};
  if (!is_quantized(linear.format)) return out;
  require_type(linear.scale, at::kHalf, "scale dtype", kWhere);
  XLSTM_ASSERT(linear.group > 0);
  const std::array<int64_t, 2> per_group = {linear.out, (linear.in + linear.group - 1) / linear.group};
  XLSTM_ASSERT(linear.scale.sizes() == at::IntArrayRef(per_group));
  // The sums of a group's codes are 32-bit integers.
  XLSTM_ASSERT((linear.group % 32 == 0 || linear.group >= linear.in) && std::min(linear.group, linear.in) <= int64_t{1}
                                                                                                                 << 16);
  out.scale = linear.scale.contiguous();
  if (linear.format == WeightFormat::kInt4) {
    require_type(linear.zero, at::kByte, "zero dtype", kWhere);
    XLSTM_ASSERT(linear.zero.sizes() == at::IntArrayRef(per_group));
    out.zero = linear.zero.contiguous();
  }
  return out;
}

}  // namespace

Linear pack_linear(const Linear& canonical, RowOrder order, WeightMemory& memory, ThreadPool& pool) {
  const Canonical tensors = canonical_tensors(canonical);
  const PanelLayout layout = layout_of(canonical, order);
  const int64_t halves = halves_of(order);
  XLSTM_ASSERT(canonical.out % halves == 0);
  Linear packed;
  packed.out = canonical.out;
  packed.in = canonical.in;
  packed.format = canonical.format;
  packed.group = canonical.group;
  if (canonical.bias.defined()) packed.bias = canonical.bias.contiguous();
  packed.weight = memory.allocate(halves * layout.total_bytes());
  auto* const data = static_cast<std::byte*>(packed.weight.mutable_data_ptr());
  for_each_dynamic(pool, layout.panels() * halves, [&](int64_t index) {
    const int64_t panel = index / halves;
    const int64_t half = index % halves;
    pack_panel(layout, tensors.rows_from(half * layout.out), panel, data + offset_of(layout, halves, panel, half));
  });
  return packed;
}

CpuMatrix::CpuMatrix(const Linear& packed, RowOrder order)
    : layout_(layout_of(packed, order)),
      kernel_(pick_panel_kernel(layout_)),
      input_(kernel_, layout_),
      data_(static_cast<const std::byte*>(packed.weight.const_data_ptr())),
      bias_(packed.bias.defined() ? static_cast<const float*>(packed.bias.const_data_ptr()) : nullptr),
      halves_(halves_of(order)) {
  XLSTM_ASSERT(static_cast<int64_t>(packed.weight.nbytes()) == halves_ * layout_.total_bytes());
  XLSTM_ASSERT(kRowGrain % kernel_.block_rows == 0);
}

namespace {

// A block's results go to lines that are far apart and mostly in no near cache: they are fetched while it is computed.
void fetch_target(const PanelTarget& target) {
  for (int64_t row = 0; row < target.rows; ++row) {
    const float* line = target.y + row * target.y_stride;
    __builtin_prefetch(line, 1);
    __builtin_prefetch(line + target.columns - 1, 1);
  }
}

}  // namespace

template <class Run>
void CpuMatrix::for_each_block(const std::byte* x, int64_t rows, const Region& region, RowsOf y, const Run& run) const {
  PanelArgs args;
  args.layout = &layout_;
  const int64_t block_rows = input_.block_rows();
  for (int64_t panel = region.panel_begin; panel < region.panel_end; ++panel) {
    args.width = layout_.width(panel);
    const int64_t column = panel * kPanelWidth;
    for (int64_t row = region.row_begin; row < region.row_end; row += block_rows) {
      const int64_t count = std::min(block_rows, rows - row);
      input_.locate(x, row / block_rows, count, &args);
      PanelTarget target{y.row(row) + column, y.stride, count, std::min(kPanelWidth, layout_.out - column),
                         bias_at(column)};
      fetch_target(target);
      run(panel, args, target);
    }
  }
}

void CpuMatrix::multiply(const std::byte* x, int64_t rows, const Region& region, const PlainFinish& finish,
                         RowsOf y) const {
  for_each_block(x, rows, region, y, [&](int64_t panel, PanelArgs& args, const PanelTarget& target) {
    alignas(64) float sums[kMostBlockRows * kPanelWidth];
    args.panel = data_ + layout_.offset(panel);
    args.out = sums;
    kernel_.run(static_cast<int>(target.rows), args);
    finish_plain(target, finish, sums);
  });
}

void CpuMatrix::multiply_gate_up(const std::byte* x, int64_t rows, const Region& region, RowsOf y) const {
  for_each_block(x, rows, region, y, [&](int64_t panel, PanelArgs& args, const PanelTarget& target) {
    alignas(64) float gate[kMostBlockRows * kPanelWidth];
    alignas(64) float up[kMostBlockRows * kPanelWidth];
    args.panel = data_ + offset_of(layout_, halves_, panel, 0);
    args.out = gate;
    kernel_.run(static_cast<int>(target.rows), args);
    args.panel = data_ + offset_of(layout_, halves_, panel, 1);
    args.out = up;
    kernel_.run(static_cast<int>(target.rows), args);
    finish_gate_up(target, bias_at(layout_.out + panel * kPanelWidth), gate, up);
  });
}

}  // namespace xlstm::cpu
