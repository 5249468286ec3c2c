// Text for a grid of character cells: widths, cutting, bars and curves.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// Which characters the terminal can show.
enum class Charset { kAscii, kUnicode };

// Cells that a text takes; each control character or malformed byte counts as none.
[[nodiscard]] size_t cell_width(std::string_view text);

// A text as one safe line: control characters and malformed bytes escaped, characters that change the direction of
// writing or have no shape replaced, and in ASCII everything that is not.
[[nodiscard]] std::string clean_text(std::string_view text, Charset charset);

// The clean text in exactly `width` cells: cut with an ellipsis, or padded with blanks on its right or left.
enum class Align { kLeft, kRight };
[[nodiscard]] std::string fit(std::string_view text, size_t width, Charset charset, Align align = Align::kLeft);

// A bar of exactly `width` cells, filled up to `share` (0…1).
[[nodiscard]] std::string bar(double share, size_t width, Charset charset);

// The last `width` values as one row of `width` cells, the newest on the right, scaled from 0 to their maximum.
[[nodiscard]] std::string sparkline(const std::deque<double>& values, size_t width, Charset charset);

// The same as a curve of `height` rows, the top one first.
[[nodiscard]] std::vector<std::string> curve(const std::deque<double>& values, size_t width, size_t height,
                                             Charset charset);

}  // namespace xlstm
