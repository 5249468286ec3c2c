#include "src/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/text/utf8.h"

namespace xlstm {

namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

// Every code point below U+0300 is its own NFC, and does not combine with a preceding one.
bool is_trivially_nfc(std::string_view text) {
  constexpr unsigned char kLeadOf0300 = 0xCC;
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < kLeadOf0300; });
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_compatibility(NormalForm form) {
  return form == NormalForm::kNfkc || form == NormalForm::kNfkd;
}
bool is_composed(NormalForm form) {
  return form == NormalForm::kNfc || form == NormalForm::kNfkc;
}

CodePoints decompose(std::string_view text, NormalForm form) {
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (is_compatibility(form) ? UTF8PROC_COMPAT : 0));
  constexpr size_t kLongestDecomposition = 32;  // 18 in Unicode
  CodePoints out;
  out.reserve(text.size());
  std::array<utf8proc_int32_t, kLongestDecomposition> buffer{};
  for (size_t pos = 0; pos < text.size();) {
    int boundary_class = 0;
    const auto code_point = static_cast<utf8proc_int32_t>(next_code_point(text, pos));
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(code_point, buffer.data(), buffer.size(), options, &boundary_class);
    XLSTM_ASSERT(count >= 0 && static_cast<size_t>(count) <= buffer.size());
    out.insert(out.end(), buffer.begin(), buffer.begin() + count);
  }
  return out;
}

// Canonical ordering: each run of combining marks sorted by combining class, stable. utf8proc_decompose would do this
// with a quadratic exchange sort, which a long run of marks turns into a hang.
void order_marks(CodePoints& text) {
  struct Mark {
    utf8proc_propval_t combining_class;
    utf8proc_int32_t code_point;
  };
  std::vector<Mark> run;
  const auto flush = [&run, &text](size_t end) {
    if (run.size() > 1) {
      std::stable_sort(run.begin(), run.end(),
                       [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
      const size_t begin = end - run.size();
      for (size_t i = 0; i < run.size(); ++i) text[begin + i] = run[i].code_point;
    }
    run.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const utf8proc_propval_t combining_class = utf8proc_get_property(text[i])->combining_class;
    if (combining_class == 0) {
      flush(i);
    } else {
      run.push_back({combining_class, text[i]});
    }
  }
  flush(text.size());
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text) || (form == NormalForm::kNfc && is_trivially_nfc(text))) return std::string(text);
  CodePoints points = decompose(text, form);
  order_marks(points);
  if (is_composed(form)) {
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    XLSTM_ASSERT(count >= 0);
    points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t point : points) append_utf8(out, static_cast<char32_t>(point));
  return out;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  // The symbols with the property Other_Alphabetic: circled and squared Latin letters. (All other characters with that
  // property are marks.)
  const bool enclosed_letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  const bool join_control = c == 0x200C || c == 0x200D;
  if (enclosed_letter || join_control) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

}  // namespace xlstm
