// Stop strings in a text that arrives in parts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// Cuts a text before the earliest place where a stop string begins. The result does not depend on how the text was cut
// into parts: whatever may still turn out to be the beginning of a stop string is held back until that is decided.
// Not thread-safe.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);  // Error kUsage if one is empty

  // The part of the text that may be printed now. After a match nothing more is returned.
  [[nodiscard]] std::string push(std::string_view text);

  // Whether a stop string was found.
  [[nodiscard]] bool stopped() const { return stopped_; }

  // At the end of the text: what was held back, up to a stop string in it.
  [[nodiscard]] std::string finish();

 private:
  enum class At { kNothing, kBeginning, kMatch };
  [[nodiscard]] At look(size_t pos) const;
  [[nodiscard]] std::string release(bool at_end);

  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace xlstm
