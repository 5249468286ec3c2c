// The printable alphabet of byte-level BPE (GPT-2): every byte has one code point that stands for it in vocabulary
// files. Bytes 21–7E, A1–AC and AE–FF stand for themselves, the other 68 for U+0100, U+0101, … in increasing order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace xlstm {

// The symbol of a byte, in UTF-8.
[[nodiscard]] std::string_view byte_symbol(uint8_t byte);

// The bytes that a text of symbols stands for; nullopt if a code point is none of the 256 symbols.
// `text` must be valid UTF-8.
[[nodiscard]] std::optional<std::string> bytes_of_symbols(std::string_view text);

}  // namespace xlstm
