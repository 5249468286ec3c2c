#!/usr/bin/env bash
# Reads the Metal shaders with clang as OpenCL C++, the language nearest to Metal's that a compiler here knows:
#   ./scripts/check_metal_syntax.sh [SHADER.metal …]
# Without arguments: every kernels/metal/*.metal. It finds wrong syntax, wrong types in every kernel instance, C++ newer
# than Metal's C++14, and pointers and references whose address space is wrong or forgotten, and first of all that it
# still finds these in shaders that are wrong on purpose. Exit code 77: there is no clang with OpenCL C++ (14 or later).
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

find_clang() {
  local program
  for program in clang clang-14 clang-15 clang-16 clang-17 clang-18 clang-19; do
    if command -v "$program" >/dev/null && "$program" -x clcpp -cl-std=clc++2021 -target spir64 -fsyntax-only /dev/null \
      2>/dev/null; then
      echo "$program"
      return
    fi
  done
}

clang=$(find_clang)
if [[ -z $clang ]]; then
  say "clang with OpenCL C++ (version 14 or later) is not installed"
  exit 77
fi
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

# read_shader FOLDER SHADER: a translated shader below the folder.
read_shader() {
  "$clang" -x clcpp -cl-std=clc++2021 -target spir64 -Xclang -finclude-default-header -fsyntax-only \
    -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter -Werror=c++98-c++11-c++14-compat \
    -I "$1" -I tests/metal_syntax "$1/$2"
}

translate() { python3 tests/metal_cuda/translate.py opencl "$@"; }

# expect_error MESSAGE: the shader on stdin must not be accepted, and for that reason.
expect_error() {
  mkdir -p "$temporary/bad"
  { printf '#include "kernels/metal/msl.h"\n' && cat; } >"$temporary/bad/bad.metal"
  if output=$(translate "$temporary/bad" "$temporary/translated" bad.metal 2>&1 &&
    read_shader "$temporary/translated" bad.metal 2>&1); then
    die "a shader that is wrong on purpose was accepted: $1 expected"
  fi
  if [[ $output != *"$1"* ]]; then
    printf '%s\n' "$output" >&2
    die "a shader that is wrong on purpose: expected an error with '$1', got the above"
  fi
}

shaders=("$@")
if ((${#shaders[@]} == 0)); then shaders=(kernels/metal/*.metal); fi
translate "$ROOT" "$temporary/translated" kernels/metal/msl.h "${shaders[@]}"

# Each differs from what is right by one word.
expect_error "no matching function" <<'BAD'
inline float first(device const float* values) { return values[0]; }
[[kernel]] void bad(constant int& args [[buffer(0)]], device float* y [[buffer(1)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, shared, 32);
  y[lane] = first(shared);
}
BAD
expect_error "no address space" <<'BAD'
inline float first(const float* values) { return values[0]; }
[[kernel]] void bad(constant int& args [[buffer(0)]], device float* y [[buffer(1)]], XLSTM_THREAD) {
  y[lane] = first(y);
}
BAD
expect_error "read-only" <<'BAD'
template <typename T>
[[kernel]] void bad(constant int& args [[buffer(0)]], device const T* x [[buffer(1)]], XLSTM_THREAD) {
  x[lane] = T(args);
}
XLSTM_KERNEL_TEMPLATE("bad", bad, half);
BAD
expect_error "C++ standards before C++17" <<'BAD'
template <int N>
inline int two() { if constexpr (N > 0) return 1; return 0; }
BAD
expect_error "poisoned" <<'BAD'
inline float wide(float x) { return float(double(x) * 2); }
BAD

failed=0
for shader in "${shaders[@]}"; do
  read_shader "$temporary/translated" "$shader" || failed=1
done
if ((failed)); then die "a shader is wrong; see above"; fi
say "Metal shaders as OpenCL C++ ($("$clang" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')): ${#shaders[@]} ok"
