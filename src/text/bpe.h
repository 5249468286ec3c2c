// Byte-pair encoding (Sennrich et al. 2016) over bytes: the merges of a vocabulary file applied to one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace xlstm {

// Two neighbouring tokens and the token that replaces them.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t result;
};

// Thread-safe after construction; the working memory is the caller's.
class Bpe {
 public:
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous;  // index of the neighbour, -1 at the ends
      int32_t next;
      bool alive;
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;  // index of the left symbol
      int32_t left;      // the ids that the candidate was made for; others by now: the candidate is stale
      int32_t right;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // byte_ids[b]: the token of the single byte b, -1 if the vocabulary has none. Merges in order of rank; of equal pairs
  // the last counts.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  // Whether every byte of the piece has a token.
  [[nodiscard]] bool covers(std::string_view piece) const;

  // Appends the ids of a piece that the vocabulary covers: merges the pair of lowest rank first, the leftmost of equal
  // ones, until none is left. O(n log n) for a piece of n bytes; n < 2^31.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int64_t>& out) const;

 private:
  struct Rule {
    uint32_t rank;
    int32_t result;
  };
  [[nodiscard]] const Rule* find_rule(int32_t left, int32_t right) const;
  void push_candidate(Scratch& scratch, int32_t position) const;
  void merge_all(Scratch& scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::unordered_map<uint64_t, Rule> rules_;
};

}  // namespace xlstm
