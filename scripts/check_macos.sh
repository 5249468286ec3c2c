#!/usr/bin/env bash
# Compiles and links the program and its tests for macOS 14 on arm64, on Linux, without running anything:
#   ./scripts/check_macos.sh [--no-tests]
# The compiler is that of the PyPI package ziglang (clang, libc++ and the headers of macOS's libSystem), libtorch the
# macOS wheel of torch. Warnings in our own code are errors, and every undefined symbol of what was linked must be
# exported by libtorch's libraries or by a system library of macOS.
#
# It needs Debian or a relative of it: PCRE2, utf8proc and Highway are built from the distribution's source packages.
# Packages are kept in .deps/macos, all else in build/macos; Zig's C++ runtime, a minute to build, stays in Zig's own
# cache like the objects in ccache's.
#
# Not covered: what only Apple's compiler rejects, whether a standard library as old as macOS 14's has what is used, and
# anything that shows when the program runs.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ZIG_VERSION=0.17.1
BUILD=$ROOT/build/macos
MACOS_DEPS=$DEPS_DIR/macos
ZIG=$MACOS_DEPS/ziglang-$ZIG_VERSION/ziglang
TORCH=$MACOS_DEPS/torch-$TORCH_VERSION/torch
TOOLS=$BUILD/tools
LIBRARIES=$BUILD/libraries
SOURCE_PACKAGES=(pcre2 utf8proc highway)

target=all
case ${1:-} in
  "") ;;
  --no-tests) target=xlstm_generate ;;
  *) die "$1: expected --no-tests or nothing" ;;
esac

# logged NAME COMMAND…: runs a command quietly; if it fails, shows the end of its output.
logged() {
  local log=$BUILD/$1.log
  shift
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    die "$1 failed; the log is $log"
  fi
}

# install_wheel NAME VERSION [pip options]: the package NAME in its own folder of .deps/macos, complete or not at all.
install_wheel() {
  local folder=$MACOS_DEPS/$1-$2 partial=$MACOS_DEPS/partial-$1
  if [[ -d $folder ]]; then return; fi
  say "installing $1 $2 into ${folder#"$ROOT"/}"
  rm -rf "$partial"
  mkdir -p "$MACOS_DEPS"
  logged pip python3 -m pip install --no-input --no-deps --no-compile --disable-pip-version-check \
    --only-binary=:all: --target "$partial" "${@:3}" "$1==$2"
  mv "$partial" "$folder"
}

# The unpacked sources of the distribution's packages, by an apt with lists of its own: this machine's may leave the
# sources out. The repositories are those that its packages come from.
fetch_sources() {
  local apt=$BUILD/apt options package archive
  say "fetching the sources of ${SOURCE_PACKAGES[*]}"
  rm -rf "$apt" "$BUILD/sources" "$BUILD/sources.partial"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/download"
  apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u >"$apt/sources.list"
  options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
  # A repository without sources, or whose mirror lacks a patch, makes apt fail though all archives are there.
  (cd "$apt/download" && { apt-get "${options[@]}" update || true; } &&
    { apt-get "${options[@]}" source --download-only "${SOURCE_PACKAGES[@]}" || true; }) >"$BUILD/apt.log" 2>&1 </dev/null
  for package in "${SOURCE_PACKAGES[@]}"; do
    archive=$(find "$apt/download" -name "${package}_*.orig.tar.*" ! -name '*.asc' | sort -V | tail -n 1)
    if [[ -z $archive ]]; then
      tail -n 5 "$BUILD/apt.log" >&2
      die "source package $package: expected an archive from apt, got none; the log is $BUILD/apt.log"
    fi
    mkdir -p "$BUILD/sources.partial/$package"
    tar -xf "$archive" -C "$BUILD/sources.partial/$package" --strip-components=1
  done
  mv "$BUILD/sources.partial" "$BUILD/sources"
  rm -rf "$apt"
}

write_tools() {
  local tool target
  mkdir -p "$TOOLS"
  for tool in cc c++ ar ranlib; do
    target=""
    if [[ $tool == c* ]]; then target="-target aarch64-macos.14.0"; fi
    printf '#!/bin/sh\nexec "%s/zig" %s %s "$@"\n' "$ZIG" "$tool" "$target" >"$TOOLS/$tool.new"
    chmod +x "$TOOLS/$tool.new"
    mv "$TOOLS/$tool.new" "$TOOLS/$tool"
  done
}

# configure_with SOURCE BUILD [options]
configure_with() {
  cmake -G Ninja -S "$1" -B "$2" "-DCMAKE_TOOLCHAIN_FILE=$ROOT/scripts/macos/toolchain.cmake" \
    "-DXLSTM_MACOS_TOOLS=$TOOLS" "-DXLSTM_MACOS_LIBRARIES=$LIBRARIES" "-DXLSTM_LIBTORCH=$TORCH" \
    -DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_FLAGS_RELEASE=-O0 -DNDEBUG" "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG" "${@:3}"
}

build_libraries() {
  local stamp=$LIBRARIES/built_from launcher=() wanted
  wanted=$(cat "$ROOT"/scripts/macos/libraries/* "$ROOT/scripts/macos/toolchain.cmake" | cksum)
  if [[ -f $stamp && $(<"$stamp") == "$wanted $ZIG_VERSION" ]]; then return; fi
  if [[ ! -d $BUILD/sources ]]; then fetch_sources; fi
  say "building the libraries"
  rm -rf "$LIBRARIES"
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  logged libraries_configure configure_with "$ROOT/scripts/macos/libraries" "$BUILD/libraries_build" \
    "-DSOURCES=$BUILD/sources" -DGOOGLETEST=/usr/src/googletest -DHEADERS=/usr/include \
    "-DCMAKE_INSTALL_PREFIX=$LIBRARIES" ${launcher[@]+"${launcher[@]}"}
  logged libraries_build ninja -C "$BUILD/libraries_build" -j "$(job_count)" install
  echo "$wanted $ZIG_VERSION" >"$stamp"
}

if ! command -v apt-get >/dev/null; then die "apt-get: expected Debian or a relative of it, got another system"; fi
start=$SECONDS
"$ROOT/scripts/setup.sh" >&2 </dev/null
mkdir -p "$BUILD"
install_wheel ziglang "$ZIG_VERSION"
# The C++ libraries are the same in the wheel of every Python.
install_wheel torch "$TORCH_VERSION" --platform macosx_11_0_arm64 --python-version 3.12 --implementation cp
is_libtorch "$TORCH" || die "torch $TORCH_VERSION: expected include/ and lib/ in the wheel, got none"
write_tools
# What a compiler is, is said by its version: ccache would look at the small scripts instead.
export CCACHE_COMPILERTYPE=clang CCACHE_COMPILERCHECK="string:ziglang $ZIG_VERSION"
export ZIG_LOCAL_CACHE_DIR=$BUILD/zig_cache
build_libraries

# Tests cannot tell their cases here: that is left to ctest.
logged configure configure_with "$ROOT" "$BUILD" -DXLSTM_WERROR=ON -DXLSTM_BENCHMARKS=OFF \
  -DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST
jobs=$(job_count)
say "building build/macos ($target) with $jobs jobs"
quiet=()
if [[ ! -t 2 && $(ninja --help 2>&1) == *--quiet* ]]; then quiet=(--quiet); fi
(cd "$BUILD" && NINJA_STATUS='[%f/%t, %e s] ' ninja ${quiet[@]+"${quiet[@]}"} -j "$jobs" "$target") >&2 </dev/null ||
  die "the build failed; see above"

programs=("$BUILD/bin/xlstm_generate")
if [[ $target == all ]]; then
  while IFS= read -r program; do programs+=("$program"); done < <(find "$BUILD/tests" -type f -name 'test_*' -perm -u+x)
fi
say "checking the symbols of ${#programs[@]} programs"
python3 "$ROOT/scripts/macos/check_symbols.py" --libraries "$TORCH/lib" --stubs "$LIBRARIES"/lib/*.tbd \
  "$ZIG/lib/libc/darwin/libSystem.tbd" -- "${programs[@]}" >&2 || die "symbols are missing; see above"
say "macOS: ok ($((SECONDS - start)) s)"
