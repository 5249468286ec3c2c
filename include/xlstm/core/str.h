// Small string helpers; libstdc++ 12 has no <format>.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// Concatenates the stream representations of its arguments: cat("chunk ", 3, " of ", 5).
template <class... Args>
[[nodiscard]] std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// Fixed-point text of a number: fixed(3.14159, 2) == "3.14".
[[nodiscard]] std::string fixed(double value, int decimals);

[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);

// "[2, 3, 4]"
[[nodiscard]] std::string shape_text(const std::vector<int64_t>& shape);

// Bytes in a unit that people read: "17.1 MB" (decimal units).
[[nodiscard]] std::string bytes_text(uint64_t bytes);

// A text safe to print on one terminal line: control characters and bytes that are not UTF-8 escaped; "…" stands for
// what comes after the first `limit` bytes or so (characters are kept whole). Printing the result again changes
// nothing.
[[nodiscard]] std::string printable(std::string_view text, size_t limit = 80);

// The candidate with the smallest edit distance to `word`, or "" if none is near enough to be a likely typo
// (distance above a third of the longer length).
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace xlstm
