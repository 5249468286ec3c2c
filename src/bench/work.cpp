#include "src/bench/work.h"

namespace xlstm {

double cell_flop(const ModelDims& dims, int64_t tokens, int64_t chunk_size) {
  const auto dk = static_cast<double>(dims.head_dim_qk);
  const auto dv = static_cast<double>(dims.head_dim_v);
  const auto in_chunks = static_cast<double>(tokens / chunk_size * chunk_size);
  const double per_head =
      static_cast<double>(tokens) * 4 * dk * dv + in_chunks * static_cast<double>(chunk_size + 1) * (dk + dv);
  return static_cast<double>(dims.num_heads) * per_head;
}

double prefill_flop(const ModelDims& dims, int64_t num_blocks, int64_t tokens, int64_t chunk_size) {
  const int64_t columns = dims.qkvo_dim() + 2 * dims.num_heads + dims.v_dim() + 3 * dims.ffn_dim;
  const double block = 2.0 * static_cast<double>(tokens) * static_cast<double>(dims.embedding_dim * columns) +
                       cell_flop(dims, tokens, chunk_size);
  const double head = 2.0 * static_cast<double>(dims.vocab_size) * static_cast<double>(dims.embedding_dim);
  return static_cast<double>(num_blocks) * block + head;
}

}  // namespace xlstm
