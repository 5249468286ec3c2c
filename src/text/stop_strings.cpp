#include "xlstm/text/stop_strings.h"

#include <utility>

#include "xlstm/core/errors.h"

namespace xlstm {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) fail(ExitCode::kUsage, "stop", "stop strings", "a text that is not empty", "\"\"");
  }
}

// What stands at held_[pos]: a whole stop string, or text that ends where one may have begun.
StopStrings::At StopStrings::look(size_t pos) const {
  const std::string_view rest = std::string_view(held_).substr(pos);
  At found = At::kNothing;
  for (const std::string& stop : stops_) {
    if (rest.starts_with(stop)) return At::kMatch;
    if (std::string_view(stop).starts_with(rest)) found = At::kBeginning;
  }
  return found;
}

std::string StopStrings::release(bool at_end) {
  for (size_t pos = 0; pos < held_.size(); ++pos) {
    const At found = look(pos);
    if (found == At::kMatch) {
      stopped_ = true;
      std::string text = held_.substr(0, pos);
      held_.clear();
      return text;
    }
    if (found == At::kBeginning && !at_end) {
      std::string text = held_.substr(0, pos);
      held_.erase(0, pos);
      return text;
    }
  }
  return std::exchange(held_, {});
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  return release(false);
}

std::string StopStrings::finish() {
  return stopped_ ? std::string() : release(true);
}

}  // namespace xlstm
