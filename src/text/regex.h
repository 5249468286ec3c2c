// Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax); here they are translated to and
// run by PCRE2, after the few constructs that the two read differently are rewritten or refused.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// The PCRE2 form of a pattern in Oniguruma's syntax: \s, \w, \b, \h and relatives become explicit sets, so that they
// hold the same code points. Error kCheckpoint (naming `where`) for constructs that cannot be carried over.
[[nodiscard]] std::string translate_pattern(std::string_view pattern, const std::string& where);

// The pattern that matches exactly `text`.
[[nodiscard]] std::string escape_pattern(std::string_view text);

// A compiled pattern. Immutable; find_all may run on several threads at once.
class Regex {
 public:
  struct Match {
    size_t begin;
    size_t end;
  };

  // `pattern` in Oniguruma's syntax, valid UTF-8; `where` names the file in errors (kCheckpoint).
  Regex(std::string_view pattern, std::string where);

  // Appends all matches in valid UTF-8, left to right, without overlap. An empty match right behind the previous match
  // does not count. Error kCheckpoint if a match needs more steps than a sane pattern does.
  void find_all(std::string_view subject, std::vector<Match>& out) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace xlstm
