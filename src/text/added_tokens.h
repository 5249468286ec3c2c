// Added tokens: texts that become one id wherever they stand, found before pre-tokenization.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xlstm {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // dropped by decode(ids, skip_special = true)
  bool normalized = true;    // looked for after normalization, in its own normal form
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space behind it along
  bool single_word = false;  // counts only where no word character touches it
};

// Splits text at a set of added tokens, the longest at the leftmost place. Thread-safe after construction.
class AddedTokenSplitter {
 public:
  // A stretch of ordinary text (id -1), or an added token.
  struct Segment {
    std::string_view text;
    int32_t id;
  };

  // Looks for patterns[i] where tokens[i] is meant; patterns are not empty.
  AddedTokenSplitter(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  // Appends the segments of a valid UTF-8 text; ordinary ones are never empty.
  void split(std::string_view text, std::vector<Segment>& out) const;

 private:
  static constexpr int32_t kNone = -1;
  struct Node {
    int32_t token = kNone;  // index of the token that ends here
    std::vector<std::pair<uint8_t, int32_t>> children;
  };
  struct Found {
    size_t length;
    int32_t token;
  };
  void insert(std::string_view pattern, int32_t token);
  [[nodiscard]] int32_t child(int32_t node, uint8_t byte) const;
  [[nodiscard]] Found longest_at(std::string_view text, size_t pos) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;  // child of the root per byte: most positions fail here
};

}  // namespace xlstm
