// Text to token ids and back: byte-level BPE as described by a tokenizer.json of the Hugging Face `tokenizers` library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// Immutable after construction, so all members may be called from several threads at once. Movable, not copyable.
class Tokenizer {
 public:
  // Reads a tokenizer.json: BPE model (either form of "merges"), normalizers NFC, NFD, NFKC and NFKD, pre-tokenizers
  // Split and ByteLevel, decoder ByteLevel, added tokens with all their flags. What would change the ids and is not
  // supported is refused by name; "post_processor", "truncation" and "padding" play no part in encode(). Error
  // kCheckpoint.
  static Tokenizer from_file(const std::filesystem::path& tokenizer_json);

  ~Tokenizer();
  Tokenizer(Tokenizer&& other) noexcept;
  Tokenizer& operator=(Tokenizer&& other) noexcept;

  // The ids of a text, the same that `tokenizers` gives (but for characters newer than the Unicode version of the
  // installed PCRE2 and utf8proc, which count as no letters). Added tokens in the text become their ids, special ones
  // too; nothing (no BOS) is added. Error kUsage with the byte offset if the text is not valid UTF-8; Error kCheckpoint
  // if the vocabulary lacks a byte of the text, or if a pattern of the file fails on it.
  [[nodiscard]] std::vector<int64_t> encode(std::string_view utf8) const;

  // The text of ids: the tokens' bytes, invalid UTF-8 sequences replaced by U+FFFD. skip_special leaves special tokens
  // out. Error kUsage for an unknown id.
  [[nodiscard]] std::string decode(std::span<const int64_t> ids, bool skip_special = false) const;

  // The bytes that a token stands for, maybe only a part of a character; valid as long as the tokenizer.
  // Error kUsage for an unknown id.
  [[nodiscard]] std::string_view token_bytes(int64_t id) const;

  // The greatest id plus one. Ids below need not all exist.
  [[nodiscard]] int64_t size() const;
  [[nodiscard]] bool has_id(int64_t id) const;
  [[nodiscard]] bool is_special(int64_t id) const;  // false for an unknown id

  // The id of a token as the file spells it: added tokens literally, others in the byte alphabet ("Ġthe").
  [[nodiscard]] std::optional<int64_t> id_of(std::string_view content) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace xlstm
