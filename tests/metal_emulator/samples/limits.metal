// Kernels that do what Metal does not allow, or leaves undefined.
#include "kernels/metal/msl.h"

struct LimitArgs {
  int number;
  int other;
};

// Words of the args are what this copies: number, other.
[[kernel]] void copy_args(constant LimitArgs& args [[buffer(0)]], device int* out [[buffer(1)]], XLSTM_THREAD) {
  if (group.x == 0 && simd == 0 && lane < 2) out[lane] = lane == 0 ? args.number : args.other;
}
XLSTM_KERNEL("copy_args", copy_args);

// Where each thread is: out[thread of the grid] = x + 10 y + 100 z of its group, and its simdgroup and lane.
[[kernel]] void places(constant LimitArgs& args [[buffer(0)]], device int4* out [[buffer(1)]], XLSTM_THREAD) {
  const uint groups_before = (group.z * uint(args.other) + group.y) * uint(args.number) + group.x;
  out[groups_before * 64 + simd * 32 + lane] =
      int4(int(group.x + 10 * group.y + 100 * group.z), int(simd), int(lane), 1);
}
XLSTM_KERNEL("places", places);

// Reads a float4 that begins at float `number`.
[[kernel]] void misaligned(constant LimitArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                           device float* out [[buffer(2)]], XLSTM_THREAD) {
  const float4 x = *(device const float4*)(in + args.number);
  if (lane == 0) out[0] = x.x + x.y + x.z + x.w;
}
XLSTM_KERNEL("misaligned", misaligned);

// What `other` says, with `number`.
[[kernel]] void arithmetic(constant LimitArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                           device int* out [[buffer(2)]], XLSTM_THREAD) {
  int table[4] = {1, 2, 3, 4};
  int result = 0;
  if (args.other == 0) result = table[args.number];
  if (args.other == 1) result = 12 / args.number;
  if (args.other == 2) result = int(in[args.number]);
  if (args.other == 3) result = 1 << args.number;
  if (args.other == 4) result = 2147483647 + args.number;
  if (args.other == 5) result = int(simd_broadcast(lane, args.number == 0 ? lane : 3u));
  if (lane == 0) out[0] = result;
}
XLSTM_KERNEL("arithmetic", arithmetic);

template <int kFloats>
[[kernel]] void shared_floats(constant LimitArgs& args [[buffer(0)]], device float* out [[buffer(1)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, first, 64);
  XLSTM_SHARED(float, second, kFloats - 64);
  for (int i = int(lane); i < kFloats - 64; i += 32) second[i] = float(i);
  if (lane < 2) first[lane] = float(args.number);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) out[0] = first[1] + second[kFloats - 65];
}
XLSTM_KERNEL_TEMPLATE("shared_floats_8192", shared_floats, 8192);
XLSTM_KERNEL_TEMPLATE("shared_floats_8193", shared_floats, 8193);

// Each threadgroup adds to what the one before it wrote: right in one order only, which Metal does not promise.
[[kernel]] void chained_groups(constant LimitArgs& args [[buffer(0)]], device int* out [[buffer(1)]], XLSTM_THREAD) {
  if (lane == 0) out[group.x + 1] = out[group.x] + args.number;
}
XLSTM_KERNEL("chained_groups", chained_groups);

// Ends only if the stack does.
[[kernel]] void deep_stack(constant LimitArgs& args [[buffer(0)]], device int* out [[buffer(1)]], XLSTM_THREAD) {
  int values[100000];
  for (int i = 0; i < args.number; ++i) values[i] = int(lane) + i;
  int sum = 0;
  for (int i = 0; i < args.number; ++i) sum += values[(i * args.other) % args.number];
  if (lane == 0) out[0] = sum;
}
XLSTM_KERNEL("deep_stack", deep_stack);
