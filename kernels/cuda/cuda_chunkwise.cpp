#include "kernels/cuda/cuda_chunkwise.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/cell_chunk.h"
#include "kernels/cuda/cell_view.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cuda::blocks_of;
using cuda::CellSpan;
using cuda::ChunkArgs;
using cuda::ChunkTile;
using cuda::Gpu;

int32_t to_int(int64_t value) {
  XLSTM_ASSERT(value >= 0 && value <= std::numeric_limits<int32_t>::max());
  return static_cast<int32_t>(value);
}

// Spans that go through the kernels together, in order.
struct Round {
  std::vector<CellSpan> spans;
  std::vector<ChunkTile> tiles;
};

class CudaChunkwise : public CellKernel {
 public:
  CudaChunkwise(const ModelDims& dims, const CudaChunkwiseOptions& options, std::shared_ptr<Gpu> gpu)
      : dims_(dims), options_(options), gpu_(std::move(gpu)), tile_(cuda::chunk_tile(options.bfloat16_products)) {
    XLSTM_ASSERT(options.chunk_size >= 1 && options.heads_per_band >= 0);
    if (options_.heads_per_band == 0) options_.heads_per_band = dims.num_heads;
    options_.heads_per_band = std::min({options_.heads_per_band, dims.num_heads, kMostHeads});
    const int64_t bands = blocks_of(dims.num_heads, options_.heads_per_band);
    options_.streams = std::clamp<int64_t>(options_.streams, 1, bands);
  }

  void run(const CellArgs& call) override {
    ChunkArgs args{};
    args.cell = cuda::view(call, dims_);
    args.padded_dk = to_int(padded(dims_.head_dim_qk));
    args.padded_dv = to_int(padded(dims_.head_dim_v));
    args.bfloat16_products = options_.bfloat16_products ? 1 : 0;
    for (const Span& span : call.spans) XLSTM_ASSERT(span.rows % options_.chunk_size == 0);
    Round round;
    for (const Span& span : call.spans) {
      const int64_t tiles = blocks_of(span.rows, tile_);
      if (static_cast<int64_t>(round.tiles.size()) + tiles > kRoundTiles) run_round(std::exchange(round, {}), args);
      add(span, round);
    }
    run_round(round, args);
  }

  // What place_scratch() counts, for shapes that need not fit into 64 bits.
  [[nodiscard]] double scratch_bytes(const PassSize& size) const override {
    const int64_t in_one_span = blocks_of(size.rows, tile_);
    const int64_t tiles = std::min(in_one_span + size.sequences - 1, std::max(in_one_span, kRoundTiles));
    const auto tokens = static_cast<double>(tile_);
    const auto dk = static_cast<double>(padded(dims_.head_dim_qk));
    const auto dv = static_cast<double>(padded(dims_.head_dim_v));
    const auto word = static_cast<double>(cuda::chunk_word(options_.bfloat16_products));
    const auto arrays = static_cast<double>(cuda::kChunkArrays);
    const double words = arrays * tokens + 2 * dk + (tokens * (3 * dk + dv) + dv * dk) / word;
    const int64_t heads = options_.heads_per_band * options_.streams;
    return sizeof(int32_t) * words * static_cast<double>(heads) * static_cast<double>(tiles);
  }

 private:
  // Scratch memory grows with the tiles, about 5 MB for one of 8 heads of 256 × 512.
  static constexpr int64_t kRoundTiles = 64;
  static constexpr int64_t kMostHeads = 65535;  // blocks of a grid along y

  static int64_t padded(int64_t width) { return blocks_of(width, cuda::kChunkPad) * cuda::kChunkPad; }

  void add(const Span& span, Round& round) const {
    if (span.rows == 0) return;
    round.spans.push_back({to_int(span.slot), to_int(span.first_row), to_int(span.rows),
                           to_int(static_cast<int64_t>(round.tiles.size()))});
    for (int64_t begin = 0; begin < span.rows; begin += tile_) {
      round.tiles.push_back({to_int(span.first_row + begin), to_int(std::min(tile_, span.rows - begin))});
    }
  }

  void run_round(const Round& round, ChunkArgs args) {
    if (round.spans.empty()) return;
    args.span_count = to_int(static_cast<int64_t>(round.spans.size()));
    args.tile_count = to_int(static_cast<int64_t>(round.tiles.size()));
    stage(round, args);
    args.heads = to_int(options_.heads_per_band);
    const int64_t words_of_band = place_scratch(args, nullptr);
    gpu_->grow(scratch_, words_of_band * options_.streams, at::kInt);
    auto* const scratch = static_cast<int32_t*>(scratch_.mutable_data_ptr());
    if (options_.streams == 1) return run_bands(args, scratch, words_of_band);
    gpu_->queue.fork(options_.streams);
    try {
      run_bands(args, scratch, words_of_band);
    } catch (...) {
      gpu_->queue.abandon_pass();  // also joins
      throw;
    }
    gpu_->queue.join();
  }

  // Band by band, by turns on the streams, each of which has `words_of_band` of the scratch memory.
  void run_bands(ChunkArgs args, int32_t* scratch, int64_t words_of_band) {
    int64_t band = 0;
    for (int64_t head = 0; head < dims_.num_heads; head += options_.heads_per_band, ++band) {
      const int64_t stream = band % options_.streams;
      if (options_.streams > 1) gpu_->queue.use_branch(stream);
      args.head_begin = to_int(head);
      args.heads = to_int(std::min(options_.heads_per_band, dims_.num_heads - head));
      run_band(args, scratch + stream * words_of_band);
    }
  }

  void run_band(ChunkArgs args, int32_t* scratch) {
    place_scratch(args, scratch);
    chunk_gates(gpu_->queue, args);
    chunk_operands(gpu_->queue, args);
    chunk_states(gpu_->queue, args);
    for (int64_t feature = 0; feature < dims_.head_dim_qk; feature += cuda::kChunkFeatures) {
      args.first_feature = to_int(feature);
      chunk_outputs(gpu_->queue, args);
    }
  }

  void stage(const Round& round, ChunkArgs& args) {
    std::vector<int32_t> values;
    for (const CellSpan& span : round.spans) {
      values.insert(values.end(), {span.slot, span.first_row, span.rows, span.first_tile});
    }
    const size_t tiles = values.size();
    for (const ChunkTile& tile : round.tiles) values.insert(values.end(), {tile.first_row, tile.tokens});
    const int32_t* staged = gpu_->queue.stage(values);
    args.spans = reinterpret_cast<const CellSpan*>(staged);
    args.tiles = reinterpret_cast<const ChunkTile*>(staged + tiles);
  }

  // Sets the pointers to scratch memory that begins at `begin`, if there is any yet, and returns its size in words.
  int64_t place_scratch(ChunkArgs& args, int32_t* begin) const {
    constexpr int64_t kAlignment = 64;  // words
    const int64_t word = cuda::chunk_word(options_.bfloat16_products);
    const int64_t tiles = int64_t{args.heads} * args.tile_count;
    int64_t size = 0;
    const auto place = [&](auto*& pointer, int64_t words) {
      if (begin != nullptr) pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(begin + size);
      size += blocks_of(words, kAlignment) * kAlignment;
    };
    place(args.arrays, cuda::kChunkArrays * tiles * tile_);
    place(args.decays, tiles);
    place(args.key_sums, tiles * args.padded_dk);
    place(args.normalizers, tiles * args.padded_dk);
    place(args.q_words, tiles * tile_ * args.padded_dk / word);
    place(args.k_words, tiles * tile_ * args.padded_dk / word);
    place(args.key_words, tiles * tile_ * args.padded_dk / word);
    place(args.v_words, tiles * tile_ * args.padded_dv / word);
    place(args.states, tiles * args.padded_dv * args.padded_dk / word);
    return size;
  }

  ModelDims dims_;
  CudaChunkwiseOptions options_;
  std::shared_ptr<Gpu> gpu_;
  int64_t tile_;
  at::Tensor scratch_;  // of a band for each stream
};

}  // namespace

std::unique_ptr<CellKernel> make_cuda_chunkwise(const ModelDims& dims, const CudaChunkwiseOptions& options,
                                                std::shared_ptr<cuda::Gpu> gpu) {
  return std::make_unique<CudaChunkwise>(dims, options, std::move(gpu));
}

}  // namespace xlstm
