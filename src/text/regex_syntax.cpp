#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>

#include "src/text/regex.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {

namespace {

// Contents of bracket classes. PCRE2's own \s also holds U+180E and its \w depends on the version. Oniguruma's \w has
// the superscripts and fractions of Latin-1 besides the word characters of Unicode.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWords = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})"
                                    R"(\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr std::string_view kHexDigits = "0-9A-Fa-f";

// From 10.40 on, PCRE2's \p{Han} also holds characters whose script extensions name Han.
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
constexpr std::string_view kScriptPrefix = "sc:";
#else
constexpr std::string_view kScriptPrefix = "";
#endif

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (!at_end()) {
      const char c = peek();
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        bracket_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        braces();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool at_end() const { return pos_ >= pattern_.size(); }
  [[nodiscard]] char peek(size_t ahead = 0) const {
    return pos_ + ahead < pattern_.size() ? pattern_[pos_ + ahead] : '\0';
  }
  [[nodiscard]] bool next_is(std::string_view text) const { return pattern_.substr(pos_, text.size()) == text; }

  void copy(size_t count) {
    out_ += pattern_.substr(pos_, count);
    pos_ += count;
  }

  void replace(size_t count, std::string_view text) {
    out_ += text;
    pos_ += count;
  }

  [[noreturn]] void refuse(std::string_view construct) const {
    fail(ExitCode::kCheckpoint, "pre_tokenizer pattern", where_, "a regular expression without unsupported constructs",
         cat(printable(construct), " at offset ", pos_, " of ", printable(pattern_)));
  }

  static std::string set(std::string_view contents) { return cat("[", contents, "]"); }
  static std::string complement(std::string_view contents) { return cat("[^", contents, "]"); }

  void escape() {
    switch (peek(1)) {
      case 's': return replace(2, set(kSpaces));
      case 'S': return replace(2, complement(kSpaces));
      case 'w': return replace(2, set(kWords));
      case 'W': return replace(2, complement(kWords));
      case 'h': return replace(2, set(kHexDigits));
      case 'H': return replace(2, complement(kHexDigits));
      case 'b': return replace(2, word_boundary(true));
      case 'B': return replace(2, word_boundary(false));
      case 'A':
      case 'z':
      case 'Z':
      case 'G': return copy(2);
      default: return shared_escape();
    }
  }

  static std::string word_boundary(bool positive) {
    const std::string word = set(kWords);
    const std::string starts = cat("(?<!", word, ")(?=", word, ")");
    const std::string ends = cat("(?<=", word, ")(?!", word, ")");
    const std::string inside = cat("(?<=", word, ")(?=", word, ")");
    const std::string outside = cat("(?<!", word, ")(?!", word, ")");
    return positive ? cat("(?:", starts, "|", ends, ")") : cat("(?:", inside, "|", outside, ")");
  }

  // Escapes that mean the same inside and outside of a bracket class.
  void shared_escape() {
    const char c = peek(1);
    switch (c) {
      case 'd':
      case 'D':
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e': return copy(2);
      case 'v': return replace(2, R"(\x{b})");
      case 'p':
      case 'P': return property();
      case 'x': return hex_escape();
      case 'u': return unicode_escape();
      default: break;
    }
    if (pos_ + 1 >= pattern_.size()) refuse("a trailing backslash");
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) refuse(pattern_.substr(pos_, 2));
    out_ += '\\';
    ++pos_;
    // A backslash before a multi-byte character means that character, which PCRE2 reads the same way without it.
    if (static_cast<unsigned char>(c) >= 0x80) out_.pop_back();
    copy(1);
  }

  // \p{Lu}, \p{^Lu}: a general category; a longer name is that of a script, without its script extensions.
  void property() {
    const size_t close = pattern_.find('}', pos_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse(pattern_.substr(pos_, 3));
    std::string_view name = pattern_.substr(pos_ + 3, close - pos_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    const bool is_word = std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
    if (name.empty() || !is_word) refuse(pattern_.substr(pos_, close + 1 - pos_));
    const std::string_view kind = name.size() <= 2 ? "" : kScriptPrefix;
    replace(close + 1 - pos_, cat("\\", peek(1), "{", negated ? "^" : "", kind, name, "}"));
  }

  void hex_escape() {
    if (peek(2) == '{') {
      const size_t close = pattern_.find('}', pos_);
      if (close == std::string_view::npos) refuse(R"(an unclosed \x{)");
      return copy(close + 1 - pos_);
    }
    const size_t digits = count_hex_digits(pos_ + 2, 2);
    if (digits == 0) refuse(R"(\x without digits)");
    out_ += cat("\\x{", pattern_.substr(pos_ + 2, digits), "}");
    pos_ += 2 + digits;
  }

  void unicode_escape() {
    if (count_hex_digits(pos_ + 2, 4) != 4) refuse(R"(\u without four digits)");
    out_ += cat("\\x{", pattern_.substr(pos_ + 2, 4), "}");
    pos_ += 6;
  }

  [[nodiscard]] size_t count_hex_digits(size_t begin, size_t limit) const {
    size_t count = 0;
    while (count < limit && begin + count < pattern_.size() &&
           std::isxdigit(static_cast<unsigned char>(pattern_[begin + count])) != 0) {
      ++count;
    }
    return count;
  }

  void bracket_class() {
    copy(1);
    if (peek() == '^') copy(1);
    if (peek() == ']') refuse("an empty class");
    while (peek() != ']') {
      if (at_end()) refuse("an unclosed class");
      if (peek() == '[') refuse("a class inside a class");
      if (next_is("&&")) refuse("&& in a class");
      if (peek() == '\\') {
        class_escape();
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  void class_escape() {
    switch (peek(1)) {
      case 's': return replace(2, kSpaces);
      case 'S': return replace(2, kNotSpaces);
      case 'w': return replace(2, kWords);
      case 'h': return replace(2, kHexDigits);
      case 'b': return replace(2, R"(\x{8})");
      default: return shared_escape();
    }
  }

  void group() {
    if (peek(1) == '*') refuse("(*");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (next_is(opening)) return copy(opening.size());
    }
    // Elsewhere than at the start the two engines give (?i) different extents.
    if (pos_ == 0 && next_is("(?i)")) return copy(4);
    refuse(pattern_.substr(pos_, 4));
  }

  // {n}, {n,}, {n,m} and {,m}; any other brace is an ordinary character.
  void braces() {
    size_t end = pos_ + 1;
    const auto digits = [this, &end] {
      const size_t begin = end;
      while (end < pattern_.size() && std::isdigit(static_cast<unsigned char>(pattern_[end])) != 0) ++end;
      return pattern_.substr(begin, end - begin);
    };
    const std::string_view low = digits();
    const bool comma = end < pattern_.size() && pattern_[end] == ',';
    if (comma) ++end;
    const std::string_view high = comma ? digits() : low;
    const bool closed = end < pattern_.size() && pattern_[end] == '}';
    if (!closed || (low.empty() && high.empty())) return replace(1, R"(\{)");
    ++end;
    if (end < pattern_.size() && pattern_[end] == '+') refuse("+ after a counted repeat");
    replace(end - pos_, cat("{", low.empty() ? "0" : low, comma ? "," : "", comma ? high : "", "}"));
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t pos_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

std::string escape_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte) == 0) {
      out += cat("\\x{", "0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15], "}");
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace xlstm
