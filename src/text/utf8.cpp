#include "xlstm/text/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace xlstm {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

uint8_t byte_at(std::string_view text, size_t pos) {
  return static_cast<uint8_t>(text[pos]);
}

// Length of the leading part of text[pos, …) that is plain ASCII, in steps of eight bytes.
size_t ascii_words(std::string_view text, size_t pos) {
  const size_t begin = pos;
  while (text.size() - pos >= sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + pos, sizeof(word));
    if ((word & 0x8080808080808080U) != 0) break;
    pos += sizeof(word);
  }
  return pos - begin;
}

// What may follow a lead byte: the number of continuation bytes, and the range of the first of them. The others range
// from 0x80 to 0xBF.
struct Lead {
  size_t continuations;
  uint8_t low;
  uint8_t high;
};

std::optional<Lead> classify_lead(uint8_t byte) {
  if (byte < 0x80) return Lead{0, 0, 0};
  if (byte < 0xC2) return std::nullopt;
  if (byte < 0xE0) return Lead{1, 0x80, 0xBF};
  if (byte == 0xE0) return Lead{2, 0xA0, 0xBF};
  if (byte == 0xED) return Lead{2, 0x80, 0x9F};
  if (byte < 0xF0) return Lead{2, 0x80, 0xBF};
  if (byte == 0xF0) return Lead{3, 0x90, 0xBF};
  if (byte < 0xF4) return Lead{3, 0x80, 0xBF};
  if (byte == 0xF4) return Lead{3, 0x80, 0x8F};
  return std::nullopt;
}

}  // namespace

Utf8Sequence utf8_sequence(std::string_view text, size_t pos) {
  const std::optional<Lead> lead = classify_lead(byte_at(text, pos));
  if (!lead) return {Utf8Sequence::Kind::kInvalid, 1};
  for (size_t i = 1; i <= lead->continuations; ++i) {
    if (pos + i == text.size()) return {Utf8Sequence::Kind::kIncomplete, i};
    const uint8_t byte = byte_at(text, pos + i);
    const uint8_t low = i == 1 ? lead->low : 0x80;
    const uint8_t high = i == 1 ? lead->high : 0xBF;
    if (byte < low || byte > high) return {Utf8Sequence::Kind::kInvalid, i};
  }
  return {Utf8Sequence::Kind::kValid, lead->continuations + 1};
}

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t pos = ascii_words(text, 0); pos < text.size(); pos += ascii_words(text, pos)) {
    const Utf8Sequence sequence = utf8_sequence(text, pos);
    if (sequence.kind != Utf8Sequence::Kind::kValid) return pos;
    pos += sequence.length;
  }
  return std::nullopt;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  while (const std::optional<size_t> bad = find_invalid_utf8(text.substr(begin))) {
    const size_t pos = begin + *bad;
    out += text.substr(begin, *bad);
    out += kReplacement;
    begin = pos + utf8_sequence(text, pos).length;
  }
  out += text.substr(begin);
  return out;
}

size_t incomplete_utf8_suffix(std::string_view text) {
  constexpr size_t kLongest = 3;
  for (size_t length = std::min(kLongest, text.size()); length > 0; --length) {
    const Utf8Sequence sequence = utf8_sequence(text, text.size() - length);
    if (sequence.kind == Utf8Sequence::Kind::kIncomplete && sequence.length == length) return length;
  }
  return 0;
}

char32_t next_code_point(std::string_view text, size_t& pos) {
  const uint8_t lead = byte_at(text, pos++);
  if (lead < 0x80) return lead;
  const int continuations = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t code_point = lead & (0x3FU >> continuations);
  for (int i = 0; i < continuations; ++i) code_point = code_point << 6 | (byte_at(text, pos++) & 0x3FU);
  return code_point;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(static_cast<uint8_t>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace xlstm
