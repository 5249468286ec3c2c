// Unicode properties and normalization forms.
#pragma once

#include <string>
#include <string_view>

namespace xlstm {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// The normal form of a valid UTF-8 text (Unicode Standard Annex 15). O(n log n) for any input.
[[nodiscard]] std::string normalize(std::string_view text, NormalForm form);

// The property White_Space.
[[nodiscard]] bool is_white_space(char32_t code_point);

// A word character as Unicode Technical Standard 18 (annex C) defines \w: Alphabetic, marks, decimal digits, connector
// punctuation and the two join controls.
[[nodiscard]] bool is_word(char32_t code_point);

}  // namespace xlstm
