// A line of styled text under construction, cut at the width of the screen.
#pragma once

#include <string>
#include <string_view>

#include "src/monitor/cells.h"
#include "xlstm/monitor/screen.h"

namespace xlstm {

class LineBuilder {
 public:
  LineBuilder(size_t width, Charset charset, bool reverse = false)
      : width_(width), charset_(charset), reverse_(reverse) {}

  // Appends the clean text, as far as there is room.
  LineBuilder& add(std::string_view text, Style style = Style::kPlain);
  // Appends it if there is room for all of it.
  LineBuilder& add_whole(std::string_view text, Style style = Style::kPlain);
  // Appends it in exactly `cells` cells.
  LineBuilder& add_fit(std::string_view text, size_t cells, Style style = Style::kPlain, Align align = Align::kLeft);
  // Blanks up to a column, if that is still ahead.
  LineBuilder& skip_to(size_t column);
  // Blanks, then the text at the right edge; left out if there is no room.
  LineBuilder& add_right(std::string_view text, Style style = Style::kPlain);

  [[nodiscard]] size_t used() const { return used_; }
  [[nodiscard]] size_t room() const { return width_ - used_; }
  [[nodiscard]] Charset charset() const { return charset_; }

  // The line; a reversed one filled with blanks up to the width.
  [[nodiscard]] ScreenLine finish();

 private:
  size_t width_;
  Charset charset_;
  bool reverse_;
  size_t used_ = 0;
  ScreenLine line_;
};

}  // namespace xlstm
