// Canonical row-major matrices (kernels/weights.h) into panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/panel_layout.h"

namespace xlstm::cpu {

struct CanonicalMatrix {
  const void* weight = nullptr;     // first row, rows without gaps
  const uint16_t* scale = nullptr;  // float16, of int8 and int4
  const uint8_t* zero = nullptr;    // of int4
};

// Writes panel `panel` of a matrix to `to`, panel_bytes(width) long.
void pack_panel(const PanelLayout& layout, const CanonicalMatrix& matrix, int64_t panel, std::byte* to);

}  // namespace xlstm::cpu
