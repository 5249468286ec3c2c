// UTF-8: validation, decoding of single code points, and replacement of invalid sequences. Well-formed means as in the
// Unicode Standard, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. All functions are thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace xlstm {

// What stands at one position of a byte string.
struct Utf8Sequence {
  enum class Kind {
    kValid,       // one whole code point
    kInvalid,     // bytes that cannot be part of any code point (a maximal subpart, or a stray byte)
    kIncomplete,  // the text ends inside what may still become a code point
  };
  Kind kind;
  size_t length;  // bytes, at least 1
};

// Classifies the sequence that begins at text[pos]; pos < text.size().
[[nodiscard]] Utf8Sequence utf8_sequence(std::string_view text, size_t pos);

// Offset in bytes of the first sequence that is not a whole code point; nullopt if the text is valid UTF-8.
[[nodiscard]] std::optional<size_t> find_invalid_utf8(std::string_view text);

// The text with each maximal subpart of an ill-formed sequence replaced by one U+FFFD (Unicode Standard, section 3.9;
// the same as Rust's String::from_utf8_lossy and WHATWG decoders).
[[nodiscard]] std::string replace_invalid_utf8(std::string_view text);

// The number of bytes (0 to 3) at the end of the text that may be the beginning of a code point.
[[nodiscard]] size_t incomplete_utf8_suffix(std::string_view text);

// The code point at text[pos], moving pos behind it. The text must be valid UTF-8 and pos on a boundary.
[[nodiscard]] char32_t next_code_point(std::string_view text, size_t& pos);

// Appends the UTF-8 form of a Unicode scalar value.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace xlstm
