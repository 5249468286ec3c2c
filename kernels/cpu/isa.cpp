#include "kernels/cpu/isa.h"

#include <algorithm>

#include "kernels/cpu/simd_targets.h"
//
#include "hwy/highway.h"
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/errors.h"

namespace xlstm::cpu {
namespace {

// Dot products that Highway's targets do not cover.
enum class Dots { kNone, kInt8, kBfloat16 };  // each with those before it

struct Isa {
  std::string name;
  int64_t target = 0;
  Dots dots = Dots::kNone;
};

const std::vector<Isa>& all_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> list;
    const int64_t mask = hwy::SupportedTargets() & HWY_TARGETS;
    for (int bit = 0; bit < 63; ++bit) {  // lower bits are better targets
      const int64_t target = int64_t{1} << bit;
      if ((mask & target) == 0) continue;
      const std::string name = hwy::TargetName(target);
      const bool vnni = name == "AVX3" && has_avx512_vnni();
      const bool bf16 = vnni && has_avx512_bf16();
      const Isa with_bf16{"AVX3_BF16", target, Dots::kBfloat16};
      if (bf16 && has_fast_bf16_dot()) list.push_back(with_bf16);
      if (vnni) list.push_back({"AVX3_VNNI", target, Dots::kInt8});
      if (bf16 && !has_fast_bf16_dot()) list.push_back(with_bf16);
      list.push_back({name, target, Dots::kNone});
    }
    return list;
  }();
  return isas;
}

size_t& active() {
  static size_t index = 0;
  return index;
}

const Isa& active_entry() {
  return all_isas()[active()];
}

}  // namespace

std::string active_isa() {
  return active_entry().name;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : all_isas()) names.push_back(isa.name);
  return names;
}

void force_isa(std::string_view name) {
  const std::vector<Isa>& isas = all_isas();
  hwy::SetSupportedTargetsForTest(0);
  active() = 0;
  if (name.empty()) return;
  const auto named = std::find_if(isas.begin(), isas.end(), [&](const Isa& isa) { return isa.name == name; });
  XLSTM_ASSERT(named != isas.end());
  hwy::SetSupportedTargetsForTest(named->target);
  active() = static_cast<size_t>(named - isas.begin());
}

bool uses_bfloat16_dot() {
  return active_entry().dots == Dots::kBfloat16;
}

bool uses_int8_dot() {
  return active_entry().dots != Dots::kNone;
}

}  // namespace xlstm::cpu
