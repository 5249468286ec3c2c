// The intermediate values of one block of a pass. Memory belongs to the Workspace; every tensor has room for the
// largest pass and is used from row 0. All float32, row-major.
#pragma once

#include <ATen/core/Tensor.h>

namespace xlstm {

struct Activations {
  at::Tensor x;      // [max_rows, E] residual stream
  at::Tensor qkvo;   // [max_rows, 2·qk_dim + 2·v_dim]
  at::Tensor q;      // view of qkvo: [max_rows, qk_dim], head-major
  at::Tensor k;      // view of qkvo: [max_rows, qk_dim]
  at::Tensor v;      // view of qkvo: [max_rows, v_dim]
  at::Tensor o;      // view of qkvo: [max_rows, v_dim] output gate before the sigmoid
  at::Tensor gates;  // [max_rows, 2·NH] soft-capped pre-activations, i | f
  at::Tensor h;      // [max_rows, v_dim] output of the cell, head-major
  at::Tensor ffn;    // [max_rows, 2·F] gate | up and their product, in an order of the device's own; undefined
                     // where the device does not write it (PassMemory)
};

}  // namespace xlstm
