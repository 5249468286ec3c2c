#include "src/monitor/cells.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr std::array kUnicodeLevels = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array kAsciiLevels = {" ", ".", ":", "-", "=", "+", "*", "%", "#"};
constexpr size_t kLevels = kUnicodeLevels.size() - 1;  // above blank

const char* level_text(size_t level, Charset charset) {
  return charset == Charset::kUnicode ? kUnicodeLevels[level] : kAsciiLevels[level];
}

std::string repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

struct Character {
  std::string_view bytes;
  utf8proc_int32_t code = -1;  // -1: malformed
};

Character next_character(std::string_view text) {
  utf8proc_int32_t code = -1;
  const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                   static_cast<utf8proc_ssize_t>(text.size()), &code);
  if (length <= 0) return {text.substr(0, 1), -1};
  return {text.substr(0, static_cast<size_t>(length)), code};
}

size_t width_of(utf8proc_int32_t code) {
  return code < 0x20 || code == 0x7f ? 0 : static_cast<size_t>(std::max(0, utf8proc_charwidth(code)));
}

// Characters that a terminal may show in a way that garbles its neighbours.
bool has_shape(utf8proc_int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

// How many eighths (0…kLevels · height) of a column a value fills; a value above 0 is never nothing.
std::vector<size_t> column_fills(const std::deque<double>& values, size_t width, size_t height) {
  std::vector<size_t> fills(width, 0);
  const size_t count = std::min(width, values.size());
  double top = 0;
  for (size_t i = values.size() - count; i < values.size(); ++i) {
    if (std::isfinite(values[i])) top = std::max(top, values[i]);
  }
  if (top <= 0) return fills;
  const size_t most = kLevels * height;
  for (size_t i = 0; i < count; ++i) {
    const double value = values[values.size() - count + i];
    if (!(value > 0)) continue;
    const double filled = std::ceil(std::min(1.0, value / top) * static_cast<double>(most));
    fills[width - count + i] = std::clamp<size_t>(static_cast<size_t>(filled), 1, most);
  }
  return fills;
}

}  // namespace

size_t cell_width(std::string_view text) {
  size_t width = 0;
  while (!text.empty()) {
    const Character next = next_character(text);
    width += width_of(next.code);
    text.remove_prefix(next.bytes.size());
  }
  return width;
}

std::string clean_text(std::string_view text, Charset charset) {
  const std::string escaped = printable(text, std::numeric_limits<size_t>::max());
  std::string out;
  std::string_view rest = escaped;
  while (!rest.empty()) {
    const Character next = next_character(rest);
    const bool shown = next.code >= 0 && has_shape(next.code) && (charset == Charset::kUnicode || next.code < 0x80);
    if (shown) out += next.bytes;
    if (!shown) out += '?';
    rest.remove_prefix(next.bytes.size());
  }
  return out;
}

std::string fit(std::string_view text, size_t width, Charset charset, Align align) {
  std::string out = clean_text(text, charset);
  size_t cells = cell_width(out);
  if (cells > width) {
    const std::string_view ellipsis = width == 0 ? "" : charset == Charset::kUnicode ? "…" : "~";
    const size_t room = width == 0 ? 0 : width - 1;
    std::string cut;
    cells = 0;
    for (std::string_view rest = out; !rest.empty();) {
      const Character next = next_character(rest);
      if (cells + width_of(next.code) > room) break;
      cells += width_of(next.code);
      cut += next.bytes;
      rest.remove_prefix(next.bytes.size());
    }
    out = cut.append(ellipsis);
    cells += width == 0 ? 0 : 1;
  }
  const std::string padding(width - cells, ' ');
  return align == Align::kLeft ? out + padding : padding + out;
}

std::string bar(double share, size_t width, Charset charset) {
  const double clipped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  if (charset == Charset::kAscii) {
    if (width < 3) return std::string(width, clipped >= 1 ? '#' : '-');
    const auto filled = static_cast<size_t>(clipped * static_cast<double>(width - 2));
    return cat('[', repeat("#", filled), repeat("-", width - 2 - filled), ']');
  }
  static constexpr std::array kParts = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<size_t>(clipped * static_cast<double>(width * kParts.size()));
  const size_t whole = eighths / kParts.size();
  const char* part = kParts[eighths % kParts.size()];
  return repeat("█", whole) + part + repeat("░", width - whole - (*part == '\0' ? 0 : 1));
}

std::string sparkline(const std::deque<double>& values, size_t width, Charset charset) {
  return curve(values, width, 1, charset).front();
}

std::vector<std::string> curve(const std::deque<double>& values, size_t width, size_t height, Charset charset) {
  std::vector<std::string> rows(height);
  for (const size_t fill : column_fills(values, width, height)) {
    for (size_t row = 0; row < height; ++row) {
      const size_t below = (height - 1 - row) * kLevels;
      rows[row] += level_text(fill <= below ? 0 : std::min(fill - below, kLevels), charset);
    }
  }
  return rows;
}

}  // namespace xlstm
