// q, k and v of a tile as words for the matrix units, padded by zeros, and each tile's part of n.
#include "kernels/cuda/cell_chunk_words.h"

namespace xlstm::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kVector = 4;    // features of a lane
constexpr int kTogether = 4;  // pairs of tokens that a warp loads at a time
constexpr int kPartFeatures = static_cast<int>(kChunkPad);
static_assert(kPartFeatures == kVector * kLanes);

// Some features of one head's q, k or v.
struct Source {
  const float* values;  // of row 0 and the head's first feature
  int64_t stride;
  int width;     // features of the head
  bool vectors;  // addresses of every fourth feature are multiples of 16 bytes
};

__device__ Source source_of(const ChunkArgs& args, const float* values, int width, int head) {
  const CellTensors& cell = args.cell;
  const bool vectors = cell.qkv_stride % kVector == 0 && width % kVector == 0 &&
                       reinterpret_cast<uintptr_t>(values) % sizeof(float4) == 0;
  return {values + int64_t{args.head_begin + head} * width, cell.qkv_stride, width, vectors};
}

template <bool kVectors>
__device__ __forceinline__ float4 load(const Source& source, const ChunkTile& tile, int token, int feature) {
  float4 x = make_float4(0, 0, 0, 0);
  if (token >= tile.tokens || feature >= source.width) return x;
  const float* from = source.values + int64_t{tile.first_row + token} * source.stride + feature;
  if constexpr (kVectors) {
    x = *reinterpret_cast<const float4*>(from);
  } else {
    x.x = from[0];
    if (feature + 1 < source.width) x.y = from[1];
    if (feature + 2 < source.width) x.z = from[2];
    if (feature + 3 < source.width) x.w = from[3];
  }
  return x;
}

// Calls use(pair, x, y) for the warp's pairs of tokens 2 · pair and 2 · pair + 1, whose features x and y are. Several
// are loaded before the first is used.
template <class Words, bool kVectors, class Use>
__device__ __forceinline__ void for_each_pair(const Source& source, const ChunkTile& tile, int feature,
                                              const Use& use) {
  for (int first = warp_id(); first < Words::kTile / 2; first += kTogether * kWarps) {
    float4 x[kTogether];
    float4 y[kTogether];
    XLSTM_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      x[i] = load<kVectors>(source, tile, 2 * (first + i * kWarps), feature);
      y[i] = load<kVectors>(source, tile, 2 * (first + i * kWarps) + 1, feature);
    }
    XLSTM_UNROLL
    for (int i = 0; i < kTogether; ++i) use(first + i * kWarps, x[i], y[i]);
  }
}
template <class Words, class Use>
__device__ __forceinline__ void for_each_pair(const Source& source, const ChunkTile& tile, int feature,
                                              const Use& use) {
  static_assert(Words::kTile / 2 % (kTogether * kWarps) == 0);
  if (source.vectors) {
    for_each_pair<Words, true>(source, tile, feature, use);
  } else {
    for_each_pair<Words, false>(source, tile, feature, use);
  }
}

// The lane's features of one token, as words of `to`, a row of features.
template <class Words>
__device__ void store_features(uint32_t* to, int feature, const float4& x) {
  if constexpr (Words::kBfloat16) {
    *reinterpret_cast<uint2*>(to + feature / Words::kValues) = make_uint2(Words::word(x.x, x.y), Words::word(x.z, x.w));
  } else {
    *reinterpret_cast<float4*>(to + feature) = x;
  }
}

// The lane's features of two tokens that follow each other, as words of `to`, one or two rows of tokens' words.
template <class Words>
__device__ void store_tokens(uint32_t* to, int64_t stride, int feature, const float4& x, const float4& y) {
  if constexpr (Words::kBfloat16) {
    *reinterpret_cast<uint4*>(to + feature) =
        make_uint4(Words::word(x.x, y.x), Words::word(x.y, y.y), Words::word(x.z, y.z), Words::word(x.w, y.w));
  } else {
    *reinterpret_cast<float4*>(to + feature) = x;
    *reinterpret_cast<float4*>(to + stride + feature) = y;
  }
}

__device__ inline float4 scaled(const float4& x, float factor) {
  return make_float4(factor * x.x, factor * x.y, factor * x.z, factor * x.w);
}
__device__ inline float4 sum_of(const float4& x, const float4& y) {
  return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
}

template <class Words>
__device__ void queries(const ChunkArgs& args, const ChunkTile& tile, int64_t index, const Source& source,
                        int feature) {
  const int64_t stride = args.padded_dk / Words::kValues;
  uint32_t* to = args.q_words + index * Words::kTile * stride;
  for_each_pair<Words>(source, tile, feature, [&](int pair, const float4& x, const float4& y) {
    store_features<Words>(to + 2 * pair * stride, feature, x);
    store_features<Words>(to + (2 * pair + 1) * stride, feature, y);
  });
}

template <class Words>
__device__ void values(const ChunkArgs& args, const ChunkTile& tile, int64_t index, const Source& source, int feature) {
  const int64_t stride = args.padded_dv;
  uint32_t* to = args.v_words + index * (Words::kTile / Words::kValues) * stride;
  for_each_pair<Words>(source, tile, feature, [&](int pair, const float4& x, const float4& y) {
    store_tokens<Words>(to + pair * (2 / Words::kValues) * stride, stride, feature, x, y);
  });
}

// Returns the sum of weight · k over the warp's tokens.
template <class Words>
__device__ float4 keys(const ChunkArgs& args, const ChunkTile& tile, int64_t index, const Source& source, int feature) {
  const int64_t stride = args.padded_dk / Words::kValues;
  uint32_t* to = args.k_words + index * Words::kTile * stride;
  const int64_t weighted_stride = args.padded_dk;
  uint32_t* weighted = args.key_words + index * (Words::kTile / Words::kValues) * weighted_stride;
  const float* weights = token_array<Words>(args, kChunkWeight, index);
  float4 sum = make_float4(0, 0, 0, 0);
  for_each_pair<Words>(source, tile, feature, [&](int pair, const float4& x, const float4& y) {
    store_features<Words>(to + 2 * pair * stride, feature, x);
    store_features<Words>(to + (2 * pair + 1) * stride, feature, y);
    const float4 weighted_x = scaled(x, weights[2 * pair]);
    const float4 weighted_y = scaled(y, weights[2 * pair + 1]);
    store_tokens<Words>(weighted + pair * (2 / Words::kValues) * weighted_stride, weighted_stride, feature, weighted_x,
                        weighted_y);
    sum = sum_of(sum, sum_of(weighted_x, weighted_y));
  });
  return sum;
}

// A block per tile, head, and 128 features of q, k or v, four of which a lane has; warps share the tokens.
template <class Words>
__global__ void __launch_bounds__(kWarps* kLanes) cell_chunk_operands(ChunkArgs args) {
  __shared__ float4 sums[kWarps][kLanes];
  wait_for_previous();
  start_next();
  const CellTensors& cell = args.cell;
  const ChunkTile tile = args.tiles[blockIdx.x];
  const auto head = static_cast<int>(blockIdx.y);
  const int64_t index = tile_index(args, head, static_cast<int>(blockIdx.x));
  const int key_parts = args.padded_dk / kPartFeatures;
  const auto part = static_cast<int>(blockIdx.z);
  const int own = kVector * lane_id();
  if (part < key_parts) {
    queries<Words>(args, tile, index, source_of(args, cell.q, cell.dk, head), part * kPartFeatures + own);
    return;
  }
  if (part >= 2 * key_parts) {
    const int feature = (part - 2 * key_parts) * kPartFeatures + own;
    values<Words>(args, tile, index, source_of(args, cell.v, cell.dv, head), feature);
    return;
  }
  const int feature = (part - key_parts) * kPartFeatures + own;
  sums[warp_id()][lane_id()] = keys<Words>(args, tile, index, source_of(args, cell.k, cell.dk, head), feature);
  __syncthreads();
  if (warp_id() != 0) return;
  float4 sum = sums[0][lane_id()];
  for (int warp = 1; warp < kWarps; ++warp) sum = sum_of(sum, sums[warp][lane_id()]);
  *reinterpret_cast<float4*>(args.key_sums + index * args.padded_dk + feature) = sum;
}

template <class Words>
void launch(Queue& queue, const ChunkArgs& args) {
  const Grid grid{.x = static_cast<unsigned>(args.tile_count),
                  .y = static_cast<unsigned>(args.heads),
                  .z = static_cast<unsigned>((2 * args.padded_dk + args.padded_dv) / kPartFeatures),
                  .threads = kWarps * kLanes};
  run<cell_chunk_operands<Words>>(queue, grid, args);
}

}  // namespace

void chunk_operands(Queue& queue, const ChunkArgs& args) {
  if (args.bfloat16_products != 0) {
    launch<Bfloat16Words>(queue, args);
  } else {
    launch<Float32Words>(queue, args);
  }
}

}  // namespace xlstm::cuda
