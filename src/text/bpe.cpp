#include "src/text/bpe.h"

#include <algorithm>
#include <limits>

#include "xlstm/core/errors.h"

namespace xlstm {

namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Orders a heap so that its top has the lowest rank, and of equal ranks the leftmost position.
bool later(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges) : byte_ids_(byte_ids) {
  rules_.reserve(merges.size());
  uint32_t rank = 0;
  for (const Merge& merge : merges) rules_[pair_key(merge.left, merge.right)] = {rank++, merge.result};
}

bool Bpe::covers(std::string_view piece) const {
  return std::all_of(piece.begin(), piece.end(), [this](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
}

const Bpe::Rule* Bpe::find_rule(int32_t left, int32_t right) const {
  const auto it = rules_.find(pair_key(left, right));
  return it == rules_.end() ? nullptr : &it->second;
}

void Bpe::push_candidate(Scratch& scratch, int32_t position) const {
  if (position < 0) return;
  const Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(position)];
  if (symbol.next < 0) return;
  const int32_t right = scratch.symbols[static_cast<size_t>(symbol.next)].id;
  if (const Rule* rule = find_rule(symbol.id, right)) {
    scratch.heap.push_back({rule->rank, position, symbol.id, right});
    std::push_heap(scratch.heap.begin(), scratch.heap.end(), later);
  }
}

void Bpe::merge_all(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<Scratch::Candidate>& heap = scratch.heap;
  const auto at = [&symbols](int32_t index) -> Scratch::Symbol& { return symbols[static_cast<size_t>(index)]; };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = at(top.position);
    const bool stale = !left.alive || left.next < 0 || left.id != top.left || at(left.next).id != top.right;
    if (stale) continue;
    Scratch::Symbol& right = at(left.next);
    left.id = find_rule(top.left, top.right)->result;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = top.position;
    push_candidate(scratch, left.previous);
    push_candidate(scratch, top.position);
  }
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int64_t>& out) const {
  XLSTM_ASSERT(piece.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  scratch.symbols.clear();
  scratch.heap.clear();
  const auto count = static_cast<int32_t>(piece.size());
  for (int32_t i = 0; i < count; ++i) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[static_cast<size_t>(i)])];
    scratch.symbols.push_back({id, i - 1, i + 1 < count ? i + 1 : -1, true});
  }
  for (int32_t i = 0; i + 1 < count; ++i) push_candidate(scratch, i);
  merge_all(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.alive) out.push_back(symbol.id);
  }
}

}  // namespace xlstm
