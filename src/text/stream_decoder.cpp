#include "xlstm/text/stream_decoder.h"

#include <string_view>
#include <utility>

#include "xlstm/text/utf8.h"

namespace xlstm {

std::string StreamDecoder::push(int64_t id) {
  const std::string_view bytes = tokenizer_->token_bytes(id);
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  pending_ += bytes;
  const size_t final_size = pending_.size() - incomplete_utf8_suffix(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, final_size));
  pending_.erase(0, final_size);
  return text;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace xlstm
