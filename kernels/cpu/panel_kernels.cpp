#include "kernels/cpu/panel_kernels.h"

#include "kernels/cpu/isa.h"
#include "kernels/cpu/panel_dot.h"
#include "kernels/cpu/panel_float.h"

namespace xlstm::cpu {

PanelKernel pick_panel_kernel(const PanelLayout& layout) {
  if (layout.format == WeightFormat::kBfloat16 && uses_bfloat16_dot()) return bfloat16_dot_kernel();
  if (is_quantized(layout.format) && uses_int8_dot()) return int8_dot_kernel(layout);
  return float_kernel(layout);
}

}  // namespace xlstm::cpu
