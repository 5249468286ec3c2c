// Reading the text-processing steps of a tokenizer.json: normalizer, pre_tokenizer, post_processor and decoder.
// All throw Error kCheckpoint for what is malformed or not supported.
#pragma once

#include <vector>

#include "src/text/json_view.h"
#include "src/text/pre_tokenizer.h"
#include "src/text/unicode.h"

namespace xlstm {

// `root` is the whole file.
[[nodiscard]] std::vector<NormalForm> parse_normalizers(const JsonView& root);
[[nodiscard]] PreTokenizer parse_pre_tokenizer(const JsonView& root);
void check_post_processor(const JsonView& root);
void check_decoder(const JsonView& root);

}  // namespace xlstm
