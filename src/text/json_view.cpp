#include "src/text/json_view.h"

#include <nlohmann/json.hpp>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {

std::string describe(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return printable(value.dump());
}

std::string JsonView::name_of(std::string_view key) const {
  const std::string shown = printable(key);
  return name_.empty() ? shown : cat(name_, ".", shown);
}

JsonView JsonView::member(std::string_view key) const {
  const auto it = object().find(key);
  if (it == value_->end()) fail(ExitCode::kCheckpoint, name_of(key), *file_, "a value", "none");
  return {*it, name_of(key), *file_};
}

std::optional<JsonView> JsonView::optional_member(std::string_view key) const {
  const auto it = object().find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return JsonView(*it, name_of(key), *file_);
}

std::vector<JsonView> JsonView::items() const {
  std::vector<JsonView> out;
  out.reserve(array().size());
  for (const nlohmann::json& item : *value_) out.emplace_back(item, cat(name_, "[", out.size(), "]"), *file_);
  return out;
}

const std::string& JsonView::text() const {
  if (!value_->is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

bool JsonView::boolean_or(std::string_view key, bool absent) const {
  const std::optional<JsonView> found = optional_member(key);
  return found ? found->boolean() : absent;
}

const nlohmann::json& JsonView::object() const {
  if (!value_->is_object()) refuse("an object");
  return *value_;
}

const nlohmann::json& JsonView::array() const {
  if (!value_->is_array()) refuse("an array");
  return *value_;
}

void JsonView::refuse(std::string_view expected, std::string_view got) const {
  fail(ExitCode::kCheckpoint, name_.empty() ? "tokenizer" : name_, *file_, expected, got);
}

void JsonView::refuse(std::string_view expected) const {
  refuse(expected, describe(*value_));
}

}  // namespace xlstm
