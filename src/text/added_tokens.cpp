#include "src/text/added_tokens.h"

#include <algorithm>

#include "src/text/unicode.h"
#include "xlstm/core/errors.h"
#include "xlstm/text/utf8.h"

namespace xlstm {

namespace {

bool is_continuation(char c) {
  return (static_cast<uint8_t>(c) & 0xC0) == 0x80;
}

// Start of the code point that ends at `end`; end > 0.
size_t previous_boundary(std::string_view text, size_t end) {
  size_t pos = end - 1;
  while (pos > 0 && is_continuation(text[pos])) --pos;
  return pos;
}

bool word_before(std::string_view text, size_t pos) {
  if (pos == 0) return false;
  size_t start = previous_boundary(text, pos);
  return is_word(next_code_point(text, start));
}

bool word_at(std::string_view text, size_t pos) {
  return pos < text.size() && is_word(next_code_point(text, pos));
}

// Where the white space that ends at `pos` begins, at least `limit`.
size_t skip_space_back(std::string_view text, size_t pos, size_t limit) {
  while (pos > limit) {
    const size_t start = previous_boundary(text, pos);
    size_t cursor = start;
    if (!is_white_space(next_code_point(text, cursor))) break;
    pos = start;
  }
  return std::max(pos, limit);
}

size_t skip_space(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    size_t cursor = pos;
    if (!is_white_space(next_code_point(text, cursor))) break;
    pos = cursor;
  }
  return pos;
}

}  // namespace

AddedTokenSplitter::AddedTokenSplitter(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  XLSTM_ASSERT(tokens_.size() == patterns.size());
  roots_.fill(kNone);
  for (size_t i = 0; i < patterns.size(); ++i) insert(patterns[i], static_cast<int32_t>(i));
}

void AddedTokenSplitter::insert(std::string_view pattern, int32_t token) {
  XLSTM_ASSERT(!pattern.empty());
  const auto new_node = [this] {
    nodes_.emplace_back();
    return static_cast<int32_t>(nodes_.size() - 1);
  };
  int32_t& root = roots_[static_cast<uint8_t>(pattern[0])];
  if (root == kNone) root = new_node();
  int32_t node = root;
  for (const char c : pattern.substr(1)) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = child(node, byte);
    if (next == kNone) {
      next = new_node();
      nodes_[static_cast<size_t>(node)].children.emplace_back(byte, next);
    }
    node = next;
  }
  Node& end = nodes_[static_cast<size_t>(node)];
  if (end.token == kNone) end.token = token;
}

int32_t AddedTokenSplitter::child(int32_t node, uint8_t byte) const {
  for (const auto& [label, next] : nodes_[static_cast<size_t>(node)].children) {
    if (label == byte) return next;
  }
  return kNone;
}

AddedTokenSplitter::Found AddedTokenSplitter::longest_at(std::string_view text, size_t pos) const {
  Found found{0, kNone};
  int32_t node = roots_[static_cast<uint8_t>(text[pos])];
  for (size_t end = pos + 1; node != kNone; ++end) {
    const int32_t token = nodes_[static_cast<size_t>(node)].token;
    if (token != kNone) found = {end - pos, token};
    if (end == text.size()) break;
    node = child(node, static_cast<uint8_t>(text[end]));
  }
  return found;
}

void AddedTokenSplitter::split(std::string_view text, std::vector<Segment>& out) const {
  size_t done = 0;  // everything before is in a segment
  // The white space that was skipped last, so that many tokens inside one long run do not each walk to its end.
  size_t space_begin = 0;
  size_t space_end = 0;
  size_t pos = 0;
  while (pos < text.size()) {
    const Found found = longest_at(text, pos);
    if (found.token == kNone) {
      ++pos;
      continue;
    }
    size_t begin = pos;
    size_t end = pos + found.length;
    // The search goes on behind the match itself, even if the flags discard the match or stretch it.
    pos = end;
    const AddedToken& token = tokens_[static_cast<size_t>(found.token)];
    if (token.single_word && (word_before(text, begin) || word_at(text, end))) continue;
    if (token.lstrip) begin = skip_space_back(text, begin, done);
    if (token.rstrip) {
      if (end < space_begin || end > space_end) {
        space_begin = end;
        space_end = skip_space(text, end);
      }
      end = space_end;
    }
    // A match in white space that rstrip or lstrip of its neighbours has used up entirely is void. Otherwise such a
    // match counts again, as in `tokenizers`, and the search for ordinary text resumes behind it.
    if (begin >= end) continue;
    if (begin > done) out.push_back({text.substr(done, begin - done), kNone});
    out.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({text.substr(done), kNone});
}

}  // namespace xlstm
