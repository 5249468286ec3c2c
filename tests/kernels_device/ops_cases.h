// Sizes, formats and weights of the tests of the operations around the cell.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/row_plan.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels/random_tensors.h"
#include "tests/kernels_device/device_under_test.h"
#include "xlstm/core/str.h"

namespace xlstm::test {

inline DeviceUnderTest& device() {
  static const auto kDevice = make_device_under_test();
  return *kDevice;
}

constexpr Shape kTiny = {7, 1, 5, 3, 23, 13};
constexpr Shape kOdd = {96, 3, 17, 31, 261, 101};
constexpr Shape kRound = {256, 4, 32, 64, 704, 130};
constexpr Shape kLong = {1100, 2, 40, 75, 333, 261};
// More tiles of rows of the head than there are multiprocessors, several boxes of columns.
constexpr Shape kWide = {2112, 2, 32, 64, 1280, 4400};

inline const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {
      {WeightFormat::kFloat32, 0}, {WeightFormat::kBfloat16, 0}, {WeightFormat::kFloat16, 0}, {WeightFormat::kInt8, 0},
      {WeightFormat::kInt8, 32},   {WeightFormat::kInt8, 64},    {WeightFormat::kInt4, 0},    {WeightFormat::kInt4, 32},
      {WeightFormat::kInt4, 64},   {WeightFormat::kInt4, 96}};
  return kFormats;
}

inline std::string text(const ModelDims& dims, int64_t rows, const Format& format) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "int8", "int4"};
  return cat("E ", dims.embedding_dim, " rows ", rows, " ", kNames[static_cast<int>(format.weights)], " group ",
             format.group);
}

inline Norm placed(const Norm& norm, const DeviceOps& ops) {
  const auto place = [&](const at::Tensor& tensor) { return tensor.defined() ? ops.place(tensor) : tensor; };
  return {place(norm.weight), place(norm.bias)};
}

inline BlockWeights packed(const BlockWeights& canonical, const DeviceOps& ops) {
  BlockWeights block = canonical;
  for (Norm* norm : {&block.norm_mlstm, &block.multihead_norm, &block.norm_ffn}) *norm = placed(*norm, ops);
  for (Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_down}) *linear = ops.pack(*linear);
  block.ffn_gate_up = ops.pack(block.ffn_gate_up, RowOrder::kGateUp);
  return block;
}

inline Weights packed(const Weights& canonical, const DeviceOps& ops) {
  Weights weights = canonical;
  if (canonical.embedding.defined()) weights.embedding = ops.place(canonical.embedding);
  for (BlockWeights& block : weights.blocks) block = packed(block, ops);
  weights.out_norm = placed(canonical.out_norm, ops);
  weights.head = ops.pack(canonical.head);
  return weights;
}

inline RowPlan plan_of(int64_t rows) {
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  return plan;
}

}  // namespace xlstm::test
