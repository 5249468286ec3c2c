#include "xlstm/core/strict_json.h"

#include <iterator>
#include <utility>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::json;

// Feeds the parser and counts the lines it has consumed.
class LineCounter {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  LineCounter(const char* at, size_t* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  LineCounter& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  LineCounter operator++(int) {
    LineCounter before = *this;
    ++*this;
    return before;
  }
  bool operator==(const LineCounter& other) const { return at_ == other.at_; }
  bool operator!=(const LineCounter& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* line_;
};

// Receives the parser's events and builds the document.
class Builder {
 public:
  Builder(const std::string& where, const JsonRules& rules, const size_t& line, JsonObject& result)
      : where_(where), rules_(rules), line_(line), result_(result) {}

  bool null() {
    if (!rules_.allow_null && !in_private_) {
      fail(rules_.code, key_.empty() ? std::string("null") : cat("key \"", printable(key_), '"'), place(), "a value",
           "null");
    }
    return add(json());
  }
  bool boolean(bool value) { return add(json(value)); }
  bool number_integer(json::number_integer_t value) { return add(json(value)); }
  bool number_unsigned(json::number_unsigned_t value) { return add(json(value)); }
  bool number_float(json::number_float_t value, const std::string&) { return add(json(value)); }
  bool string(std::string& value) { return add(json(std::move(value))); }
  bool binary(json::binary_t&) { return false; }

  bool start_object(std::size_t) { return open(json::object()); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(json::array()); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (open_.back()->contains(name)) {
      fail(rules_.code, cat("key \"", printable(name), '"'), place(), "each key once", "it twice");
    }
    if (open_.size() == 1) {
      result_.lines[name] = line_;
      in_private_ = name.starts_with('_');
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) {
    // The exception's text starts with its own name and position; the place is already part of our message.
    std::string text = error.what();
    if (const size_t column = text.find("column "); column != std::string::npos) {
      if (const size_t colon = text.find(": ", column); colon != std::string::npos) text.erase(0, colon + 2);
    } else if (const size_t bracket = text.find("] "); bracket != std::string::npos) {
      text.erase(0, bracket + 2);
    }
    fail(rules_.code, rules_.what, place(), "valid JSON", printable(text, 160));
  }

 private:
  [[nodiscard]] std::string place() const { return cat(where_, ':', line_); }

  json* insert(json&& value) {
    if (open_.empty()) {
      result_.value = std::move(value);
      return &result_.value;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    json& slot = parent[key_];
    slot = std::move(value);
    return &slot;
  }

  bool add(json&& value) {
    insert(std::move(value));
    return true;
  }

  bool open(json&& container) {
    if (open_.size() == kMaxJsonDepth) {
      fail(rules_.code, rules_.what, place(), cat("at most ", kMaxJsonDepth, " levels of nesting"), "more");
    }
    open_.push_back(insert(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& where_;
  const JsonRules& rules_;
  const size_t& line_;
  JsonObject& result_;
  std::vector<json*> open_;  // containers from the outermost in; a parent does not grow while its child is open
  std::string key_;
  bool in_private_ = false;  // inside a top-level key that begins with '_'
};

}  // namespace

JsonObject parse_strict_json(std::string_view text, const std::string& where, const JsonRules& rules) {
  // The parser takes a NUL byte for the end of the text and would not look at what follows.
  if (text.find('\0') != std::string_view::npos) fail(rules.code, rules.what, where, "valid JSON", "a NUL byte");
  JsonObject result;
  size_t line = 1;
  Builder builder(where, rules, line, result);
  const LineCounter begin(text.data(), &line);
  const LineCounter end(text.data() + text.size(), &line);
  json::sax_parse(begin, end, &builder);
  if (!rules.any_root && !result.value.is_object()) {
    fail(rules.code, rules.what, where, "a JSON object", json_kind(result.value));
  }
  return result;
}

std::string json_kind(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return "a string";
  return printable(value.dump(), 40);
}

}  // namespace xlstm
