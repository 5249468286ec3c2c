// Hashes of the files this project writes. Not cryptographic: they find damage and mix-ups, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace xlstm {

// A 64-bit checksum over little-endian 8-byte words: FNV-1a's xor and multiply, then a fold of the upper half into the
// lower one. Each step is a bijection of the running value, so changing any one word always changes the result.
class Checksum {
 public:
  void add(uint64_t word) {
    hash_ = (hash_ ^ word) * 0x100000001b3U;
    hash_ ^= hash_ >> 32;
  }

  // The length, then the bytes, the last word filled up with zeros.
  void add(std::span<const std::byte> bytes) {
    add(static_cast<uint64_t>(bytes.size()));
    size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) add(word(bytes.data() + i, 8));
    if (i < bytes.size()) add(word(bytes.data() + i, bytes.size() - i));
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }

  [[nodiscard]] std::string hex() const {
    std::string out(16, '0');
    for (size_t i = 0; i < 16; ++i) out[i] = "0123456789abcdef"[(hash_ >> (60 - 4 * i)) & 15U];
    return out;
  }

 private:
  static uint64_t word(const std::byte* bytes, size_t size) {
    uint64_t value = 0;
    std::memcpy(&value, bytes, size);
    return value;
  }

  uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace xlstm
