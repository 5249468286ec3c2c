// Tiles: the unit of work of the scheduled chunkwise backends. No libtorch, so that schedulers need none.
#pragma once

#include <cstdint>

namespace xlstm {

// Heads [head_begin, head_end) and tokens [token_begin, token_end) (relative to the span) of span number `span`.
struct Tile {
  int64_t span = 0;
  int64_t head_begin = 0;
  int64_t head_end = 0;
  int64_t token_begin = 0;
  int64_t token_end = 0;
};

// Thrown by a tile whose heads were given up because an earlier tile of theirs threw; that one's exception is the
// cause.
struct EarlierTileFailed {};

// Runs tiles of one chunkwise call on the calling thread. Tiles that share a head of a span run in token order, each
// after the one before it has finished; all others may run beside each other.
class TileRunner {
 public:
  virtual ~TileRunner() = default;
  virtual void run(const Tile& tile) const = 0;
  // True if run() may also be called while earlier tiles of the same heads still run on other threads: it does what
  // needs no state, waits for the earlier tiles to hand over the state, and has the same result.
  [[nodiscard]] virtual bool runs_ahead() const { return false; }
};

struct CellArgs;

// A device's compiled chunkwise kernel, cut into tiles.
class TileKernel {
 public:
  virtual ~TileKernel() = default;
  // The runner refers to the tensors and spans of `args`, which must outlive its use; it is good until the next bind().
  [[nodiscard]] virtual const TileRunner& bind(const CellArgs& args) = 0;
};

}  // namespace xlstm
