#include "kernels/cpu/isa.h"

#include "kernels/cpu/simd_targets.h"
//
#include "hwy/highway.h"
#include "xlstm/core/errors.h"

namespace xlstm::cpu {
namespace {

// Lower bits are better targets.
std::vector<int64_t> usable_targets() {
  std::vector<int64_t> targets;
  const int64_t mask = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if ((mask & target) != 0) targets.push_back(target);
  }
  return targets;
}

}  // namespace

std::string active_isa() {
  return hwy::TargetName(usable_targets().front());
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const int64_t target : usable_targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

void force_isa(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);
  if (name.empty()) return;
  for (const int64_t target : usable_targets()) {
    if (name != hwy::TargetName(target)) continue;
    hwy::SetSupportedTargetsForTest(target);
    return;
  }
  XLSTM_ASSERT(!"instruction set not supported");
}

}  // namespace xlstm::cpu
