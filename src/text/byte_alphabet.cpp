#include "src/text/byte_alphabet.h"

#include <array>

#include "xlstm/text/utf8.h"

namespace xlstm {

namespace {

constexpr char32_t kFirstShifted = 0x100;
constexpr size_t kCodePoints = 0x144;  // 0x100 + 68 shifted bytes

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::string, 256> symbols;
  std::array<int16_t, kCodePoints> bytes;  // -1: not a symbol

  Alphabet() {
    bytes.fill(-1);
    char32_t shifted = kFirstShifted;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t code_point = stands_for_itself(byte) ? static_cast<char32_t>(byte) : shifted++;
      append_utf8(symbols[static_cast<size_t>(byte)], code_point);
      bytes[code_point] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_symbol(uint8_t byte) {
  return alphabet().symbols[byte];
}

std::optional<std::string> bytes_of_symbols(std::string_view text) {
  const Alphabet& table = alphabet();
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const char32_t code_point = next_code_point(text, pos);
    if (code_point >= kCodePoints || table.bytes[code_point] < 0) return std::nullopt;
    out += static_cast<char>(static_cast<uint8_t>(table.bytes[code_point]));
  }
  return out;
}

}  // namespace xlstm
