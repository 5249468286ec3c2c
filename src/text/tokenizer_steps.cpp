#include "src/text/tokenizer_steps.h"

#include <array>
#include <string>
#include <string_view>

#include "xlstm/core/str.h"

namespace xlstm {

namespace {

template <class Value>
struct Named {
  std::string_view name;
  Value value;
};

// The value of the name that `view` holds; refuses other names, listing the known ones.
template <class Value, size_t kCount>
Value choose(const JsonView& view, const std::array<Named<Value>, kCount>& choices) {
  std::vector<std::string> names;
  for (const Named<Value>& choice : choices) {
    if (view.text() == choice.name) return choice.value;
    names.emplace_back(choice.name);
  }
  view.refuse(cat("one of ", join(names, ", ")), printable(view.text()));
}

// A step, or the steps of a Sequence (not nested).
std::vector<JsonView> steps_of(const JsonView& step, std::string_view sequence_member) {
  if (step.member("type").text() == "Sequence") return step.member(sequence_member).items();
  return {step};
}

NormalForm parse_normal_form(const JsonView& step) {
  static constexpr std::array<Named<NormalForm>, 4> kForms{
      {{"NFC", NormalForm::kNfc}, {"NFD", NormalForm::kNfd}, {"NFKC", NormalForm::kNfkc}, {"NFKD", NormalForm::kNfkd}}};
  return choose(step.member("type"), kForms);
}

std::string parse_split_pattern(const JsonView& pattern) {
  if (const auto regex = pattern.optional_member("Regex")) return regex->text();
  if (const auto text = pattern.optional_member("String")) return escape_pattern(text->text());
  pattern.refuse("an object with Regex or String");
}

SplitStep parse_split(const JsonView& step) {
  static constexpr std::array<Named<SplitBehavior>, 5> kBehaviors{
      {{"Isolated", SplitBehavior::kIsolated},
       {"Removed", SplitBehavior::kRemoved},
       {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
       {"MergedWithNext", SplitBehavior::kMergedWithNext},
       {"Contiguous", SplitBehavior::kContiguous}}};
  return {Regex(parse_split_pattern(step.member("pattern")), step.file()), choose(step.member("behavior"), kBehaviors),
          step.boolean_or("invert", false)};
}

PreTokenizer::ByteLevel parse_byte_level(const JsonView& step) {
  PreTokenizer::ByteLevel byte_level;
  byte_level.add_prefix_space = step.member("add_prefix_space").boolean();
  if (step.boolean_or("use_regex", true)) byte_level.words = gpt2_words();
  return byte_level;
}

}  // namespace

std::vector<NormalForm> parse_normalizers(const JsonView& root) {
  std::vector<NormalForm> forms;
  if (const auto normalizer = root.optional_member("normalizer")) {
    for (const JsonView& step : steps_of(*normalizer, "normalizers")) forms.push_back(parse_normal_form(step));
  }
  return forms;
}

PreTokenizer parse_pre_tokenizer(const JsonView& root) {
  const JsonView pre_tokenizer = root.member("pre_tokenizer");
  std::vector<JsonView> steps = steps_of(pre_tokenizer, "pretokenizers");
  // Without a last ByteLevel step the model would see characters, not bytes.
  if (steps.empty()) pre_tokenizer.refuse("ByteLevel as the last step", "no step");
  const JsonView last = steps.back();
  steps.pop_back();
  if (last.member("type").text() != "ByteLevel") {
    last.member("type").refuse("ByteLevel as the last step", printable(last.member("type").text()));
  }
  std::vector<SplitStep> splits;
  for (const JsonView& step : steps) {
    const JsonView type = step.member("type");
    if (type.text() != "Split") type.refuse("Split before the last step", printable(type.text()));
    splits.push_back(parse_split(step));
  }
  return {std::move(splits), parse_byte_level(last)};
}

void check_post_processor(const JsonView& root) {
  const auto processor = root.optional_member("post_processor");
  if (!processor) return;
  for (const JsonView& step : steps_of(*processor, "processors")) {
    const JsonView type = step.member("type");
    if (type.text() != "ByteLevel" && type.text() != "TemplateProcessing") {
      type.refuse("ByteLevel, TemplateProcessing or none", printable(type.text()));
    }
  }
}

void check_decoder(const JsonView& root) {
  const JsonView type = root.member("decoder").member("type");
  if (type.text() != "ByteLevel") type.refuse("ByteLevel", printable(type.text()));
}

}  // namespace xlstm
