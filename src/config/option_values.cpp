// Types and ranges of option values, from JSON and from command-line texts.
#include <algorithm>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <locale>
#include <nlohmann/json.hpp>
#include <sstream>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::json;

template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overload(Fs...) -> Overload<Fs...>;

constexpr size_t kShownValue = 60;  // bytes of a wrong value that a message repeats

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
    if (text.empty()) parts.emplace_back();
  }
  return parts;
}

bool is_choice(std::string_view text, std::string_view choices) {
  for (const std::string& choice : split(choices, '|')) {
    if (text == choice) return true;
    if (!choice.ends_with(":N")) continue;
    const std::string_view prefix = std::string_view(choice).substr(0, choice.size() - 1);
    const std::string_view digits = text.starts_with(prefix) ? text.substr(prefix.size()) : "";
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (!digits.empty() && digits.size() <= 4 && std::all_of(digits.begin(), digits.end(), is_digit)) return true;
  }
  return false;
}

bool is_allowed(std::string_view text, const TextOption& kind) {
  // A NUL would silently cut a path; no option has a use for one.
  if (kind.choices.empty()) return text.find('\0') == std::string_view::npos;
  if (!kind.several) return is_choice(text, kind.choices);
  const std::vector<std::string> parts = split(text, ',');
  return std::all_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return is_choice(part, kind.choices); });
}

// Settings are printed as JSON, which holds Unicode text only.
bool is_utf8(const std::string& text) {
  try {
    (void)json(text).dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

std::string shown(const json& value) {
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace), kShownValue);
}

std::string shortest(double value) {
  return json(value).dump();
}

std::string bound(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? std::to_string(static_cast<int64_t>(value))
                                                              : shortest(value);
}

[[noreturn]] void refuse(const Option& option, const json& value, const ValueSource& source) {
  fail(ExitCode::kUsage, source.what, source.where, expected_values(option), shown(value));
}

[[noreturn]] void refuse_text(std::string_view text, const ValueSource& source, std::string_view expected) {
  fail(ExitCode::kUsage, source.what, source.where, expected, cat('"', printable(text, kShownValue), '"'));
}

int64_t checked_int(const Option& option, const IntOption& kind, const json& value, const ValueSource& source) {
  // nlohmann keeps integers above INT64_MAX as unsigned; get<int64_t>() would wrap them.
  const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
  if (!fits) refuse(option, value, source);
  const auto number = value.get<int64_t>();
  if (number < kind.min || number > kind.max) refuse(option, value, source);
  return number;
}

double checked_number(const Option& option, const NumberOption& kind, const json& value, const ValueSource& source) {
  if (!value.is_number()) refuse(option, value, source);
  const auto number = value.get<double>();
  const bool low = kind.above_min ? number <= kind.min : number < kind.min;
  if (!std::isfinite(number) || low || number > kind.max) refuse(option, value, source);
  return number;
}

std::vector<std::string> checked_list(const Option& option, const json& value, const ValueSource& source) {
  if (!value.is_array()) refuse(option, value, source);
  std::vector<std::string> texts;
  for (const json& item : value) {
    if (!item.is_string() || item.get_ref<const std::string&>().empty()) refuse(option, value, source);
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

}  // namespace

std::string expected_values(const Option& option) {
  return std::visit(Overload{
                        [](const SwitchOption&) -> std::string { return "true or false"; },
                        [](const IntOption& kind) {
                          return kind.max == INT64_MAX ? cat("an integer, at least ", kind.min)
                                                       : cat("an integer from ", kind.min, " to ", kind.max);
                        },
                        [](const NumberOption& kind) {
                          if (kind.max == DBL_MAX)
                            return cat("a number", kind.above_min ? " above " : ", at least ", bound(kind.min));
                          if (kind.above_min)
                            return cat("a number above ", bound(kind.min), " and at most ", bound(kind.max));
                          return cat("a number from ", bound(kind.min), " to ", bound(kind.max));
                        },
                        [](const TextOption& kind) -> std::string {
                          if (kind.choices.empty()) return "text";
                          const std::string names = join(split(kind.choices, '|'), ", ");
                          return kind.several ? cat("a comma-separated list of ", names) : cat("one of ", names);
                        },
                        [](const TextListOption&) -> std::string { return "a list of non-empty texts"; },
                    },
                    option.kind);
}

void set_option(RuntimeOpts& opts, const Option& option, const json& value, const ValueSource& source) {
  std::visit(Overload{
                 [&](const SwitchOption& kind) {
                   if (!value.is_boolean()) refuse(option, value, source);
                   opts.*kind.member = value.get<bool>();
                 },
                 [&](const IntOption& kind) { opts.*kind.member = checked_int(option, kind, value, source); },
                 [&](const NumberOption& kind) { opts.*kind.member = checked_number(option, kind, value, source); },
                 [&](const TextOption& kind) {
                   if (!value.is_string()) refuse(option, value, source);
                   const auto& text = value.get_ref<const std::string&>();
                   if (!is_allowed(text, kind)) refuse(option, value, source);
                   opts.*kind.member = text;
                 },
                 [&](const TextListOption& kind) { opts.*kind.member = checked_list(option, value, source); },
             },
             option.kind);
}

json get_option(const RuntimeOpts& opts, const Option& option) {
  return std::visit([&](const auto& kind) { return json(opts.*kind.member); }, option.kind);
}

json option_from_text(const Option& option, const std::vector<std::string>& texts, const ValueSource& source) {
  XLSTM_ASSERT(!texts.empty());
  const std::string& last = texts.back();
  for (const std::string& text : texts) {
    if (!is_utf8(text)) refuse_text(text, source, "UTF-8 text");
  }
  const std::string expected = expected_values(option);
  json value = std::visit(Overload{
                              [&](const SwitchOption&) -> json {
                                if (last != "true" && last != "false") refuse_text(last, source, expected);
                                return last == "true";
                              },
                              [&](const IntOption&) -> json { return parse_integer(last, source, expected); },
                              [&](const NumberOption&) -> json { return parse_number(last, source, expected); },
                              [&](const TextOption&) -> json { return last; },
                              [&](const TextListOption&) -> json { return texts; },
                          },
                          option.kind);
  RuntimeOpts scratch;
  set_option(scratch, option, value, source);
  return value;
}

int64_t parse_integer(std::string_view text, const ValueSource& source, std::string_view expected) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) refuse_text(text, source, expected);
  return number;
}

double parse_number(std::string_view text, const ValueSource& source, std::string_view expected) {
  // A stream rather than from_chars, which some standard libraries lack for double; the character check keeps out
  // "inf", "nan", hexadecimal and blanks.
  std::istringstream in{std::string(text)};
  in.imbue(std::locale::classic());
  double number = 0;
  const bool plain = !text.empty() && text.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  if (!plain || !(in >> number) || in.peek() != std::istringstream::traits_type::eof()) {
    refuse_text(text, source, expected);
  }
  return number;
}

}  // namespace xlstm
