#include "xlstm/text/tokenizer.h"

#include <array>
#include <limits>

#include "src/text/byte_alphabet.h"
#include "src/text/tokenizer_json.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/text/utf8.h"

namespace xlstm {

namespace {

struct TokenEntry {
  std::string bytes;
  bool present = false;
  bool special = false;
};

// A vocabulary entry with a character outside of the byte alphabet stands for its own UTF-8 bytes, as in `tokenizers`.
// Added tokens always do: they matched the text as it was, and so they give it back.
std::vector<TokenEntry> build_entries(const TokenizerParts& parts) {
  std::vector<TokenEntry> entries;
  const auto put = [&entries](int32_t id, std::string bytes, bool special) {
    const auto index = static_cast<size_t>(id);
    if (index >= entries.size()) entries.resize(index + 1);
    entries[index] = {std::move(bytes), true, special};
  };
  for (const auto& [content, id] : parts.vocabulary) put(id, bytes_of_symbols(content).value_or(content), false);
  for (const AddedToken& token : parts.added_tokens) put(token.id, token.content, token.special);
  return entries;
}

std::array<int32_t, 256> byte_ids(const Vocabulary& vocabulary) {
  std::array<int32_t, 256> ids{};
  for (size_t byte = 0; byte < ids.size(); ++byte) {
    const auto it = vocabulary.find(byte_symbol(static_cast<uint8_t>(byte)));
    ids[byte] = it == vocabulary.end() ? -1 : it->second;
  }
  return ids;
}

std::string normalize_all(std::string_view text, const std::vector<NormalForm>& forms) {
  std::string out(text);
  for (const NormalForm form : forms) out = normalize(out, form);
  return out;
}

AddedTokenSplitter make_splitter(const TokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  // Of tokens with the same normal form the first one counts, and special ones come first.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : parts.added_tokens) {
      if (token.normalized != normalized || token.special != special) continue;
      tokens.push_back(token);
      patterns.push_back(normalized ? normalize_all(token.content, parts.normalizers) : token.content);
    }
  }
  return {std::move(tokens), patterns};
}

}  // namespace

struct Tokenizer::Impl {
  Impl(TokenizerParts parts, std::string path)
      : file(std::move(path)),
        entries(build_entries(parts)),
        raw_tokens(make_splitter(parts, false)),
        normalized_tokens(make_splitter(parts, true)),
        bpe(byte_ids(parts.vocabulary), parts.merges),
        ignore_merges(parts.ignore_merges),
        normalizers(std::move(parts.normalizers)),
        pre_tokenizer(std::move(parts.pre_tokenizer)),
        vocabulary(std::move(parts.vocabulary)),
        ids_of_added() {
    for (const AddedToken& token : parts.added_tokens) ids_of_added.emplace(token.content, token.id);
  }

  [[nodiscard]] const TokenEntry& entry(int64_t id) const {
    const auto index = static_cast<size_t>(id);
    if (id < 0 || index >= entries.size() || !entries[index].present) {
      fail(ExitCode::kUsage, "token id", file, cat("an id of the vocabulary, below ", entries.size()),
           std::to_string(id));
    }
    return entries[index];
  }

  void encode_piece(std::string_view piece, Bpe::Scratch& scratch, std::vector<int64_t>& out) const {
    throw_if_stopped();
    if (ignore_merges) {
      std::string symbols;
      for (const char c : piece) symbols += byte_symbol(static_cast<uint8_t>(c));
      if (const auto whole = vocabulary.find(symbols); whole != vocabulary.end()) {
        out.push_back(whole->second);
        return;
      }
    }
    if (!bpe.covers(piece)) {
      fail(ExitCode::kCheckpoint, "model.vocab", file, "a token for every byte of the text",
           cat("none for some of ", printable(piece)));
    }
    bpe.encode(piece, scratch, out);
  }

  std::string file;
  std::vector<TokenEntry> entries;
  AddedTokenSplitter raw_tokens;
  AddedTokenSplitter normalized_tokens;
  Bpe bpe;
  bool ignore_merges;
  std::vector<NormalForm> normalizers;
  PreTokenizer pre_tokenizer;
  Vocabulary vocabulary;
  Vocabulary ids_of_added;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&& other) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&& other) noexcept = default;

Tokenizer Tokenizer::from_file(const std::filesystem::path& tokenizer_json) {
  const std::string text = read_regular_file(tokenizer_json, ExitCode::kCheckpoint);
  const std::string file = tokenizer_json.string();
  return Tokenizer(std::make_unique<const Impl>(parse_tokenizer_json(text, file), file));
}

std::vector<int64_t> Tokenizer::encode(std::string_view utf8) const {
  if (const std::optional<size_t> bad = find_invalid_utf8(utf8)) {
    fail(ExitCode::kUsage, "text", cat("byte ", *bad), "valid UTF-8", printable(utf8.substr(*bad, 4)));
  }
  std::vector<int64_t> ids;
  Bpe::Scratch scratch;
  const auto encode_ordinary = [&](std::string_view text) {
    impl_->pre_tokenizer.for_each_piece(text,
                                        [&](std::string_view piece) { impl_->encode_piece(piece, scratch, ids); });
  };
  std::vector<AddedTokenSplitter::Segment> raw;
  std::vector<AddedTokenSplitter::Segment> normalized;
  impl_->raw_tokens.split(utf8, raw);
  for (const AddedTokenSplitter::Segment& outer : raw) {
    if (outer.id >= 0) {
      ids.push_back(outer.id);
      continue;
    }
    const std::string text = normalize_all(outer.text, impl_->normalizers);
    normalized.clear();
    impl_->normalized_tokens.split(text, normalized);
    for (const AddedTokenSplitter::Segment& inner : normalized) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
      } else {
        encode_ordinary(inner.text);
      }
    }
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int64_t id : ids) {
    const TokenEntry& entry = impl_->entry(id);
    if (!(skip_special && entry.special)) bytes += entry.bytes;
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int64_t id) const {
  return impl_->entry(id).bytes;
}

int64_t Tokenizer::size() const {
  return static_cast<int64_t>(impl_->entries.size());
}

bool Tokenizer::has_id(int64_t id) const {
  return id >= 0 && id < size() && impl_->entries[static_cast<size_t>(id)].present;
}

bool Tokenizer::is_special(int64_t id) const {
  return has_id(id) && impl_->entry(id).special;
}

std::optional<int64_t> Tokenizer::id_of(std::string_view content) const {
  for (const Vocabulary* tokens : {&impl_->ids_of_added, &impl_->vocabulary}) {
    if (const auto it = tokens->find(content); it != tokens->end()) return it->second;
  }
  return std::nullopt;
}

}  // namespace xlstm
