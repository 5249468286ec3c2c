// What the shaders of the mLSTM cell and their host code agree on.
#pragma once

namespace xlstm {
namespace shader {

enum : int {
  kCellSpans = 64,       // per command
  kCellColumns = 32,     // of C, V and h per threadgroup
  kCellTile = 64,        // tokens of a chunk that are worked on together, at most
  kRecurrentSimds = 8,   // simdgroups per threadgroup
  kNormalizerSimds = 8,  // simdgroups per threadgroup
  kChunkSimds = 4        // simdgroups per threadgroup, of 8 columns each
};

// Scratch of one value per head and token: arrays [heads, rows], one behind the other.
enum : int {
  // Recurrent: factors on the state before the token and on what the token adds. Chunkwise: share of the state before
  // the tile in the token's output; weight of the token in the state behind the tile.
  kCellForget,
  kCellInput,
  kCellDenominator,  // of h
  kCellStabiliser,   // m; this and what follows is chunkwise only
  kCellGate,         // the input gate
  kCellDecayHigh,    // high + low: the log of all forget gates from the tile's first token to this one
  kCellDecayLow,
  kCellArrays
};

struct CellSpan {
  int slot;
  int first_row;
  int rows;
  int first_tile;  // where its tiles begin among those of all spans of the command
};

struct CellArgs {
  int heads;
  int head_begin;  // the grid's first head
  int dk;
  int dv;
  int dk_begin;  // the rows of C that this command works on: [dk_begin, dk_end); h is the sum over the commands
  int dk_end;
  int qkv_stride;  // of the rows of q, k and v
  int gates_stride;
  int h_stride;
  int rows;          // of the scratch arrays
  int tile;          // tokens per tile
  int score_stride;  // tile, in whole blocks of 8
  float scale;       // on q
  float eps;
  CellSpan spans[kCellSpans];
};

}  // namespace shader
}  // namespace xlstm
