#include "xlstm/model/quantization.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"
#include "xlstm/io/checkpoint.h"

namespace xlstm {
namespace {

using nlohmann::json;

constexpr int64_t kGroupStep = 32;

// The keys of one object, with errors that name them.
class Keys {
 public:
  Keys(const json& object, const std::string& where, const QuantizationRules& rules)
      : object_(object), where_(where), rules_(rules) {
    if (!object.is_object()) fail(rules.code, rules.object, where, "an object", json_kind(object));
  }

  [[nodiscard]] const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  [[noreturn]] void refuse(const char* key, const std::string& expected) const {
    const json* value = find(key);
    fail(rules_.code, cat(rules_.object, '.', key), where_, expected,
         value == nullptr ? "none" : printable(value->dump()));
  }

  [[nodiscard]] bool is_integer(const char* key) const {
    return find(key) != nullptr && find(key)->is_number_integer();
  }

 private:
  const json& object_;
  const std::string& where_;
  const QuantizationRules& rules_;
};

}  // namespace

int64_t effective_group(const MatrixFormat& format, int64_t columns) {
  XLSTM_ASSERT(is_quantized(format.format) && format.group >= 0 && format.group <= kMaxGroup);
  if (format.group > 0) return format.group;
  return columns <= kMaxGroup ? std::max<int64_t>(columns, 1) : kMaxGroup / 2;
}

int64_t groups_per_row(const MatrixFormat& format, int64_t columns) {
  if (!is_quantized(format.format)) return 0;
  const int64_t group = effective_group(format, columns);
  return std::max<int64_t>(1, (columns + group - 1) / group);
}

int64_t row_bytes(WeightFormat format, int64_t columns) {
  switch (format) {
    case WeightFormat::kFloat32: return 4 * columns;
    case WeightFormat::kBfloat16:
    case WeightFormat::kFloat16: return 2 * columns;
    case WeightFormat::kInt8: return columns;
    case WeightFormat::kInt4: return (columns + 1) / 2;
  }
  return 0;
}

MatrixFormat Quantization::matrices() const {
  return {bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4, group};
}

MatrixFormat Quantization::head() const {
  return {WeightFormat::kInt8, bits == 8 ? group : 0};
}

QuantScheme Quantization::head_scheme() const {
  return QuantScheme::kSymmetric;
}

std::string Quantization::dtype() const {
  return cat("int", bits);
}

std::string Quantization::text() const {
  return cat(dtype(), ", ", scheme_name(scheme), ", ", group == 0 ? "one scale per row" : cat("group ", group));
}

Quantization default_quantization(int64_t bits) {
  XLSTM_ASSERT(bits == 8 || bits == 4);
  if (bits == 8) return {8, 0, QuantScheme::kSymmetric};
  return {4, 32, QuantScheme::kAffine};
}

const char* scheme_name(QuantScheme scheme) {
  return scheme == QuantScheme::kSymmetric ? "symmetric" : "affine";
}

Quantization parse_quantization(const json& object, const std::string& where, const QuantizationRules& rules) {
  const Keys keys(object, where, rules);
  const bool known_version = keys.is_integer("version") && *keys.find("version") == kQuantizationVersion;
  if (rules.versioned && !known_version) {
    keys.refuse("version", cat(kQuantizationVersion, ", the version that this program reads"));
  }
  if (!keys.is_integer("bits") || (*keys.find("bits") != 8 && *keys.find("bits") != 4)) keys.refuse("bits", "8 or 4");
  Quantization out = default_quantization(keys.find("bits")->get<int64_t>());
  if (const json* group = keys.find("group")) {
    const bool valid =
        group->is_number_integer() && *group >= 0 && *group <= kMaxGroup && group->get<int64_t>() % kGroupStep == 0;
    if (!valid) keys.refuse("group", cat("0 (one scale per row) or a multiple of ", kGroupStep, " up to ", kMaxGroup));
    out.group = group->get<int64_t>();
  }
  if (const json* scheme = keys.find("scheme")) {
    if (*scheme == scheme_name(QuantScheme::kSymmetric)) {
      out.scheme = QuantScheme::kSymmetric;
    } else if (*scheme == scheme_name(QuantScheme::kAffine) && out.bits == 4) {
      out.scheme = QuantScheme::kAffine;
    } else {
      keys.refuse("scheme", out.bits == 8 ? "\"symmetric\" for 8 bits" : "\"affine\" or \"symmetric\"");
    }
  }
  return out;
}

nlohmann::ordered_json to_json(const Quantization& quantization) {
  return {{"version", kQuantizationVersion},
          {"bits", quantization.bits},
          {"group", quantization.group},
          {"scheme", scheme_name(quantization.scheme)}};
}

std::string stored_dtype(const std::filesystem::path& directory) {
  try {
    const json config = read_checkpoint_config(directory);
    const auto found = config.find("quantization");
    if (found == config.end() || found->is_null()) return "";
    return parse_quantization(*found, (directory / "config.json").string(), {}).dtype();
  } catch (const Error&) {
    return "";
  }
}

}  // namespace xlstm
