// The mLSTM cell for many rows of a sequence at once, tile by tile on the matrix units: four kernels, each of which
// needs the one before it.
//   gates:    what is one value per token and head, and m; tiles of a head side by side but for a short chain
//   operands: q, k and v as words that the matrix units take, and each tile's own part of n; all tiles side by side
//   states:   C and n from tile to tile, saved in front of each; a block keeps 128 × 64 elements of C in registers
//   outputs:  h = (S·V + q̄·C) / denominator from the saved C; all tiles side by side
//
// Why C is saved: strips of a head's columns of C that walk over the tokens and make h themselves would need no saved
// C, but each of 16 strips would read all of q, k and S, 76 KB per 64 tokens, one after the other: an H200's
// second-level cache (5.5 TB/s) serves that to 128 blocks in 1.8 µs, 28 ns a token, and nothing hides what a block
// waits for. Blocks of the states kernel share the rows of C as well, since no sum crosses them, and read 384 bytes a
// token; outputs are plain products of 128 rows. For 8 heads of 256 × 512, 2,048 tokens and bfloat16 products, operands
// read 67 MB and write 42 MB (20 to 25 µs in memory), states move 100 MB and save 32 MB through that cache (24 µs),
// outputs 70 MB (13 µs) under products of 7.5 GFLOP in tiles that wait for shared memory (about 20 µs).
//
// Products are those of float32 values, each split into two tf32 (float32 results), or of values rounded to bfloat16.
// Sums, C between tiles, gates, decays and stabilisers are float32 in both cases. No libtorch, no CUDA header.
#pragma once

#include <cstdint>

#include "kernels/cuda/cell_args.h"
#include "kernels/cuda/queue.h"

namespace xlstm::cuda {

// Tokens of a span that are worked on together: rows [first_row, first_row + tokens) of the pass. Staged as int32.
struct ChunkTile {
  int32_t first_row;
  int32_t tokens;
};

// Per token and head, float32, zero for absent tokens of a tile: arrays [heads, tiles, tokens of a tile].
enum ChunkArray : int32_t {
  kChunkDecayHigh,   // high + low: the log of all forget gates from the tile's first token to this one
  kChunkDecayLow,    //
  kChunkInput,       // the input gate
  kChunkStabiliser,  // m
  kChunkShare,       // of the state before the tile in the token's output
  kChunkWeight,      // of the token in the state behind the tile
  kChunkDot,         // q·n, while the features of q come in several shares
  kChunkArrays
};

constexpr int64_t kChunkPad = 128;       // padded widths of operands are multiples of it
constexpr int64_t kChunkFeatures = 256;  // of q that the outputs take at a time

// Tokens of a tile: 128 rows fill a block's matrix units; float32 words take twice the memory.
[[nodiscard]] constexpr int64_t chunk_tile(bool bfloat16_products) {
  return bfloat16_products ? 128 : 64;
}
// Values of a word.
[[nodiscard]] constexpr int64_t chunk_word(bool bfloat16_products) {
  return bfloat16_products ? 2 : 1;
}

// T: tokens of a tile, P: values of a word, Dk and Dv: padded widths. Words hold neighbours along the last but P axis
// of what they make: features of q, k and states, tokens of keys and values. All but the cell's own zero where padded.
struct ChunkArgs {
  CellTensors cell;
  const CellSpan* spans;  // none is empty
  const ChunkTile* tiles;
  float* arrays;        // [kChunkArrays, heads, tiles, T]
  float* decays;        // [heads, tiles] factor of the tile on C and n
  float* key_sums;      // [heads, tiles, Dk] Σ weight · k
  float* normalizers;   // [heads, tiles, Dk] n before the tile
  uint32_t* q_words;    // [heads, tiles, T, Dk / P]
  uint32_t* k_words;    // [heads, tiles, T, Dk / P]
  uint32_t* key_words;  // [heads, tiles, T / P, Dk] weight · k
  uint32_t* v_words;    // [heads, tiles, T / P, Dv]
  uint32_t* states;     // [heads, tiles, Dv, Dk / P] C before the tile, transposed
  int32_t head_begin;   // of the band of heads that all of this is for
  int32_t heads;        // of the band
  int32_t span_count;
  int32_t tile_count;
  int32_t padded_dk;
  int32_t padded_dv;
  int32_t bfloat16_products;
  int32_t first_feature;  // of the outputs' share of q; h is the sum over the shares
};

void chunk_gates(Queue& queue, const ChunkArgs& args);
void chunk_operands(Queue& queue, const ChunkArgs& args);
void chunk_states(Queue& queue, const ChunkArgs& args);
// For each first_feature in turn: 0, kChunkFeatures, ... below dk.
void chunk_outputs(Queue& queue, const ChunkArgs& args);

}  // namespace xlstm::cuda
