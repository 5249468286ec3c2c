#include "src/text/pre_tokenizer.h"

#include <algorithm>

namespace xlstm {

namespace {

// Consecutive parts of a text, alternating between matched and unmatched ones.
struct Part {
  size_t begin;
  size_t end;
  bool matched;
};

std::vector<Part> cut(const SplitStep& step, std::string_view text) {
  std::vector<Regex::Match> matches;
  step.pattern.find_all(text, matches);
  std::vector<Part> parts;
  parts.reserve(2 * matches.size() + 1);
  size_t end = 0;
  for (const Regex::Match& match : matches) {
    if (match.begin > end) parts.push_back({end, match.begin, step.invert});
    parts.push_back({match.begin, match.end, !step.invert});
    end = match.end;
  }
  if (end < text.size()) parts.push_back({end, text.size(), step.invert});
  return parts;
}

// A matched part joins the unmatched part before it.
std::vector<Part> merged_with_previous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous_matched = false;
  for (const Part& part : parts) {
    if (part.matched && !previous_matched && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    previous_matched = part.matched;
  }
  return merged;
}

// A matched part joins the unmatched part behind it.
std::vector<Part> merged_with_next(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool next_matched = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->matched && !next_matched && !merged.empty()) {
      merged.back().begin = part->begin;
    } else {
      merged.push_back(*part);
    }
    next_matched = part->matched;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

// Neighbours of the same kind become one part.
std::vector<Part> contiguous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  for (const Part& part : parts) {
    if (!merged.empty() && merged.back().matched == part.matched) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
  }
  return merged;
}

}  // namespace

void apply_split(const SplitStep& step, std::string_view text, std::vector<std::string_view>& out) {
  std::vector<Part> parts = cut(step, text);
  switch (step.behavior) {
    case SplitBehavior::kIsolated: break;
    case SplitBehavior::kRemoved: std::erase_if(parts, [](const Part& part) { return part.matched; }); break;
    case SplitBehavior::kMergedWithPrevious: parts = merged_with_previous(parts); break;
    case SplitBehavior::kMergedWithNext: parts = merged_with_next(parts); break;
    case SplitBehavior::kContiguous: parts = contiguous(parts); break;
  }
  for (const Part& part : parts) {
    if (part.end > part.begin) out.push_back(text.substr(part.begin, part.end - part.begin));
  }
}

void PreTokenizer::for_each_piece(std::string_view text, const std::function<void(std::string_view)>& sink) const {
  std::vector<std::string_view> pieces{text};
  std::vector<std::string_view> next;
  for (const SplitStep& step : splits_) {
    next.clear();
    for (const std::string_view piece : pieces) apply_split(step, piece, next);
    pieces.swap(next);
  }
  std::string prefixed;
  for (std::string_view piece : pieces) {
    if (byte_level_.add_prefix_space && piece.front() != ' ') {
      prefixed.assign(1, ' ').append(piece);
      piece = prefixed;
    }
    if (!byte_level_.words) {
      sink(piece);
      continue;
    }
    next.clear();
    apply_split(*byte_level_.words, piece, next);
    for (const std::string_view word : next) sink(word);
  }
}

SplitStep gpt2_words() {
  return {Regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "GPT-2"),
          SplitBehavior::kIsolated, false};
}

}  // namespace xlstm
