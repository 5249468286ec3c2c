#include "src/monitor/canvas.h"

#include <algorithm>
#include <utility>

namespace xlstm {

LineBuilder& LineBuilder::add(std::string_view text, Style style) {
  return add_fit(text, cell_width(clean_text(text, charset_)), style);
}

LineBuilder& LineBuilder::add_whole(std::string_view text, Style style) {
  return cell_width(clean_text(text, charset_)) <= room() ? add(text, style) : *this;
}

LineBuilder& LineBuilder::add_fit(std::string_view text, size_t cells, Style style, Align align) {
  const size_t width = std::min(cells, room());
  if (width == 0) return *this;
  line_.push_back({fit(text, width, charset_, align), style, reverse_});
  used_ += width;
  return *this;
}

LineBuilder& LineBuilder::skip_to(size_t column) {
  return column > used_ ? add_fit("", column - used_) : *this;
}

LineBuilder& LineBuilder::add_right(std::string_view text, Style style) {
  const size_t width = cell_width(clean_text(text, charset_));
  if (width + 1 > room()) return *this;
  return skip_to(width_ - width).add(text, style);
}

ScreenLine LineBuilder::finish() {
  if (reverse_) skip_to(width_);
  return std::move(line_);
}

}  // namespace xlstm
