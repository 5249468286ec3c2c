#!/usr/bin/env bash
# Builds the SIMD kernels of the CPU for arm64 and runs their tests that need no libtorch in an emulator:
#   ./scripts/check_arm64.sh [TEST.cpp …]
# Without arguments: every such test that tests/kernels/CMakeLists.txt lists. It needs Debian or a relative of it with
# the packages that it names if one is missing; Highway's library for arm64 is fetched from the archive into the build
# folder. Nothing outside build/arm64 is changed.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

BUILD=build/arm64
PREFIX=aarch64-linux-gnu
GTEST=/usr/src/googletest
# Headers without code for one processor; the compiler for arm64 does not look in /usr/include.
HEADERS="hwy spdlog fmt nlohmann"

missing=""
require() {  # PACKAGE FILE…: a package is there if its files are.
  local file
  for file in "${@:2}"; do
    if [[ ! -e $file ]] && ! command -v "$file" >/dev/null; then
      missing+=" $1"
      return
    fi
  done
}
require g++-aarch64-linux-gnu $PREFIX-g++
require qemu-user qemu-aarch64
require googletest $GTEST/googletest/src/gtest-all.cc $GTEST/googlemock/src/gmock-all.cc
require libhwy-dev /usr/include/hwy/highway.h
require libspdlog-dev /usr/include/spdlog/spdlog.h
require libfmt-dev /usr/include/fmt/format.h
require nlohmann-json3-dev /usr/include/nlohmann/json.hpp
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  die "apt-get and dpkg-deb: expected Debian or a relative of it, got another system"
fi
if [[ -n $missing ]]; then die "packages are missing; apt-get install$missing"; fi

# Highway's library, with an apt that knows arm64 alone and keeps its lists here.
fetch_highway() {
  local apt=$ROOT/$BUILD/apt log=$ROOT/$BUILD/apt.log options
  say "fetching Highway's library for arm64"
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/download"
  options=(-qq -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/state/status" -o "Dir::Cache=$apt/cache"
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
  : >"$apt/state/status"
  if ! (cd "$apt/download" && apt-get "${options[@]}" update && apt-get "${options[@]}" download libhwy1) \
    >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "libhwy1 for arm64 could not be fetched; see above"
  fi
  rm -rf "$BUILD/highway"
  dpkg-deb -x "$apt"/download/libhwy1_*_arm64.deb "$BUILD/highway.partial"
  mv "$BUILD/highway.partial" "$BUILD/highway"
  rm -rf "$apt"
}

# The sources of a library or test of a CMakeLists.txt, as paths.
sources_of() {
  local folder=$1 name=$2 source
  for source in $(tr '\n' ' ' <"$folder/CMakeLists.txt" |
    sed -n "s/.*xlstm_[a-z]*($name  *SOURCES \([^)]*\) DEPS.*/\1/p"); do
    echo "$folder/$source"
  done
}

# Those tests of the kernels that CMake builds without libtorch.
tests_without_torch() {
  local name
  for name in $(tr '\n' ' ' <tests/kernels/CMakeLists.txt | grep -o 'xlstm_test([a-z_0-9]*  *SOURCES' |
    sed 's/.*(\([^ ]*\).*/\1/'); do
    sources_of tests/kernels "$name"
  done
}

object_of() { echo "$BUILD/objects/${1//\//_}.o"; }

compile() {
  local source=$1 standard=(-std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-psabi) launcher=()
  if [[ $source == "$GTEST"/* ]]; then standard=(-std=c++14 "-I$GTEST/googletest" "-I$GTEST/googlemock"); fi
  if command -v ccache >/dev/null; then launcher=(ccache); fi
  "${launcher[@]}" $PREFIX-g++ "${standard[@]}" -O2 -pthread -DSPDLOG_FMT_EXTERNAL -DFMT_HEADER_ONLY \
    -Iinclude -I. -isystem "$BUILD/include" -isystem $GTEST/googletest/include -isystem $GTEST/googlemock/include \
    '-DXLSTM_VERSION="0"' '-DXLSTM_LIBTORCH_VERSION="none"' \
    -DXLSTM_TEST_DATA="\"$ROOT/tests/data\"" -DXLSTM_SOURCE_DIR="\"$ROOT\"" -c "$source" -o "$(object_of "$source")"
}

if [[ ${1:-} == --compile ]]; then  # by xargs below
  compile "$2"
  exit
fi

tests=("$@")
if ((${#tests[@]} == 0)); then mapfile -t tests < <(tests_without_torch); fi
if ((${#tests[@]} == 0)); then die "tests/kernels/CMakeLists.txt: expected a test without libtorch, got none"; fi
for test in "${tests[@]}"; do
  if [[ ! -f $test ]]; then die "test: expected a file, got $test"; fi
done

start=$SECONDS
mkdir -p "$BUILD/objects" "$BUILD/include"
if [[ ! -d $BUILD/highway ]]; then fetch_highway; fi
for name in $HEADERS; do ln -sfn "/usr/include/$name" "$BUILD/include/$name"; done
highway=$(find "$BUILD/highway" -name 'libhwy.so.1*' -print -quit)
[[ -n $highway ]] || die "package libhwy1: expected libhwy.so.1, got none"

# What the tests may be linked against: layers without libtorch.
mapfile -t sources < <(
  sources_of kernels/cpu xlstm_kernels_cpu_simd
  sources_of src/schedule xlstm_schedule
  sources_of src/io xlstm_io
  sources_of src/core xlstm_core
)
gtest=("$GTEST/googletest/src/gtest-all.cc" "$GTEST/googletest/src/gtest_main.cc" "$GTEST/googlemock/src/gmock-all.cc")
say "compiling $((${#sources[@]} + ${#tests[@]})) files for arm64"
printf '%s\0' "${sources[@]}" "${tests[@]}" "${gtest[@]}" |
  xargs -0 -n 1 -P "$(job_count)" "$ROOT/scripts/check_arm64.sh" --compile || die "the build failed; see above"

objects=()
for source in "${sources[@]}" "${gtest[@]}"; do objects+=("$(object_of "$source")"); done
failed=0
for test in "${tests[@]}"; do
  program=$BUILD/$(basename "$test" .cpp)
  $PREFIX-g++ -pthread "$(object_of "$test")" "${objects[@]}" "$highway" -o "$program"
  say "running $test in the emulator"
  qemu-aarch64 -L /usr/$PREFIX -E "LD_LIBRARY_PATH=$(dirname "$highway")" "$program" --gtest_brief=1 >&2 || failed=1
done
if ((failed)); then die "a test failed; see above"; fi
say "arm64: ok ($((SECONDS - start)) s)"
