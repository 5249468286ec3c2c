// Tiles: the unit of work of the scheduled chunkwise backends. No libtorch, so that schedulers need none.
#pragma once

#include <cstdint>
#include <memory>

namespace xlstm {

// Heads [head_begin, head_end) and tokens [token_begin, token_end) (relative to the span) of span number `span`.
struct Tile {
  int64_t span = 0;
  int64_t head_begin = 0;
  int64_t head_end = 0;
  int64_t token_begin = 0;
  int64_t token_end = 0;
};

// Runs tiles of one chunkwise call on the calling thread. Tiles that share a head of a span must run in token order,
// each after the one before it has finished; all others may run beside each other.
class TileRunner {
 public:
  virtual ~TileRunner() = default;
  virtual void run(const Tile& tile) const = 0;
};

struct CellArgs;

// A device's compiled chunkwise kernel, cut into tiles.
class TileKernel {
 public:
  virtual ~TileKernel() = default;
  // The runner refers to the tensors of `args`, which must outlive it.
  [[nodiscard]] virtual std::unique_ptr<TileRunner> bind(const CellArgs& args) const = 0;
};

}  // namespace xlstm
