#include "src/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/text/utf8.h"

namespace xlstm {

namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>>;

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

// Steps that one match may take. A greedy repeat over the whole subject that backs off again is legitimate, so the
// limit grows with the subject.
uint32_t match_limit(size_t subject_size) {
  constexpr size_t kBase = 10'000'000;
  constexpr size_t kPerByte = 32;
  constexpr size_t kMost = 4'000'000'000;
  return static_cast<uint32_t>(std::min(kMost, kBase + kPerByte * std::min(subject_size, kMost / kPerByte)));
}

}  // namespace

struct Regex::Compiled {
  Code code;
  std::string where;
};

Regex::Regex(std::string_view pattern, std::string where) {
  const std::string translated = translate_pattern(pattern, where);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  XLSTM_ASSERT(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // In Ruby's syntax ^ and $ always match at line ends, hence PCRE2_MULTILINE.
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get()));
  if (code == nullptr) {
    fail(ExitCode::kCheckpoint, "pre_tokenizer pattern", where, "a regular expression",
         cat(printable(pattern), ": ", error_text(error)));
  }
  // Where the platform has no just-in-time compiler (or forbids it) the interpreter runs the pattern.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  compiled_ = std::make_shared<const Compiled>(Compiled{std::move(code), std::move(where)});
}

void Regex::find_all(std::string_view subject, std::vector<Match>& out) const {
  const pcre2_code* code = compiled_->code.get();
  const MatchData data(pcre2_match_data_create_from_pattern(code, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  XLSTM_ASSERT(data != nullptr && context != nullptr);
  pcre2_set_match_limit(context.get(), match_limit(subject.size()));

  const auto match_at = [&](size_t pos, uint32_t options) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), pos,
                       PCRE2_NO_UTF_CHECK | options, data.get(), context.get());
  };
  size_t pos = 0;
  bool any = false;
  size_t previous_end = 0;
  while (pos <= subject.size()) {
    int result = match_at(pos, 0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match_at(pos, PCRE2_NO_JIT);  // the interpreter uses the heap
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) {
      fail(ExitCode::kCheckpoint, "pre_tokenizer pattern", compiled_->where, "a pattern that matches within its limits",
           cat(error_text(result), " at byte ", pos, " of a text of ", subject.size(), " bytes"));
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
    const Match match{offsets[0], offsets[1]};
    if (match.begin == match.end && any && match.end == previous_end) {
      if (pos >= subject.size()) return;
      pos += utf8_sequence(subject, pos).length;
      continue;
    }
    out.push_back(match);
    any = true;
    previous_end = match.end;
    pos = match.end;
  }
}

}  // namespace xlstm
