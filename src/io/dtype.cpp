#include "xlstm/io/dtype.h"

#include <algorithm>
#include <array>

namespace xlstm {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  uint64_t size;
};

// In the order of the enumeration.
constexpr std::array<Entry, 13> kEntries = {{
    {DType::F64, "F64", 8},
    {DType::F32, "F32", 4},
    {DType::F16, "F16", 2},
    {DType::BF16, "BF16", 2},
    {DType::I64, "I64", 8},
    {DType::I32, "I32", 4},
    {DType::I16, "I16", 2},
    {DType::I8, "I8", 1},
    {DType::U64, "U64", 8},
    {DType::U32, "U32", 4},
    {DType::U16, "U16", 2},
    {DType::U8, "U8", 1},
    {DType::Bool, "BOOL", 1},
}};

const Entry& entry(DType dtype) {
  return kEntries[static_cast<size_t>(dtype)];
}

}  // namespace

uint64_t dtype_size(DType dtype) {
  return entry(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return entry(dtype).name;
}

std::optional<DType> parse_dtype(std::string_view name) {
  const auto found = std::find_if(kEntries.begin(), kEntries.end(), [&](const Entry& e) { return e.name == name; });
  if (found == kEntries.end()) return std::nullopt;
  return found->dtype;
}

std::string dtype_names() {
  std::string names;
  for (const Entry& e : kEntries) {
    if (!names.empty()) names += ", ";
    names += e.name;
  }
  return names;
}

bool is_float(DType dtype) {
  return dtype == DType::F64 || dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

}  // namespace xlstm
