// Checked reading of a JSON file.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xlstm {

// One line about a value, for error messages.
[[nodiscard]] std::string describe(const nlohmann::json& value);

// A place in the file. Reading it as another type than it has is an Error kCheckpoint that names the place.
class JsonView {
 public:
  // `name` is the place as shown in errors ("model.vocab"; empty: the whole file), `file` the path. Both the value and
  // the path must outlive the view.
  JsonView(const nlohmann::json& value, std::string name, const std::string& file)
      : value_(&value), name_(std::move(name)), file_(&file) {}

  // The member of this object, which must be there.
  [[nodiscard]] JsonView member(std::string_view key) const;
  // The member of this object; nullopt if it is absent or null.
  [[nodiscard]] std::optional<JsonView> optional_member(std::string_view key) const;
  [[nodiscard]] std::vector<JsonView> items() const;  // of this array

  [[nodiscard]] const std::string& text() const;
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] bool boolean_or(std::string_view key, bool absent) const;

  [[nodiscard]] const nlohmann::json& object() const;
  [[nodiscard]] const nlohmann::json& array() const;
  [[nodiscard]] const nlohmann::json& value() const { return *value_; }
  [[nodiscard]] const std::string& file() const { return *file_; }

  // Throws the Error for this place; without `got` the value itself is described.
  [[noreturn]] void refuse(std::string_view expected, std::string_view got) const;
  [[noreturn]] void refuse(std::string_view expected) const;

 private:
  [[nodiscard]] std::string name_of(std::string_view key) const;
  const nlohmann::json* value_;
  std::string name_;
  const std::string* file_;
};

}  // namespace xlstm
