# Shared by the scripts beside it; sourced, not run. Bash 3.2 (macOS) is enough.
# Everything here reports on stderr: stdout belongs to the program that a script runs.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
TORCH_VERSION=2.11.0
DEPS_DIR=$ROOT/.deps
# shellcheck disable=SC2034  # used by setup.sh
TORCH_DIR=$DEPS_DIR/torch-$TORCH_VERSION

say() { printf '==> %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# True if the folder is a libtorch with headers: an unpacked libtorch, or the torch folder of a wheel.
is_libtorch() { [[ -f $1/include/ATen/ATen.h && -d $1/lib ]]; }

# The libtorch that XLSTM_LIBTORCH or CMAKE_PREFIX_PATH names, or nothing. The same places as cmake/FindLibTorch.cmake.
named_libtorch() {
  local prefix prefixes folder
  if [[ -n ${XLSTM_LIBTORCH:-} ]]; then
    is_libtorch "$XLSTM_LIBTORCH" ||
      die "XLSTM_LIBTORCH ($XLSTM_LIBTORCH): expected a folder with include/ATen/ATen.h and lib/, got none there"
    printf '%s\n' "$XLSTM_LIBTORCH"
    return
  fi
  IFS=':' read -r -a prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in ${prefixes[@]+"${prefixes[@]}"}; do
    if [[ $prefix != /* ]]; then continue; fi
    # The third form is for torch/share/cmake, which Python's torch.utils.cmake_prefix_path prints.
    for folder in "$prefix" "$prefix/torch" "$prefix/../.."; do
      if is_libtorch "$folder"; then
        printf '%s\n' "$folder"
        return
      fi
    done
  done
}

core_count() { nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1; }

# Memory that this machine or control group can still give, in MB; 0 if unknown.
free_memory_mb() {
  local free_kb limit used
  if [[ -r /proc/meminfo ]]; then
    free_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    if [[ -r /sys/fs/cgroup/memory.max && -r /sys/fs/cgroup/memory.current ]]; then
      limit=$(cat /sys/fs/cgroup/memory.max)
      used=$(cat /sys/fs/cgroup/memory.current)
      if [[ $limit != max && $(((limit - used) / 1024)) -lt $free_kb ]]; then free_kb=$(((limit - used) / 1024)); fi
    fi
    echo $((free_kb / 1024))
  else
    echo $(($(sysctl -n hw.memsize 2>/dev/null || echo 0) / 2 / 1048576))
  fi
}

# Compile jobs: one a core, and about 1 GB for each file that includes libtorch.
job_count() {
  local cores memory jobs
  cores=$(core_count)
  memory=$(free_memory_mb)
  jobs=$cores
  if ((memory > 0 && memory / 1100 < jobs)); then jobs=$((memory / 1100)); fi
  echo $((jobs > 0 ? jobs : 1))
}

# configure PRESET: runs CMake unless this preset's build folder is already configured the same way.
# ninja itself runs CMake again when a CMake file has changed. A script that sets reference_dir decides where the tests
# look for reference data; the others leave it as it is.
configure() {
  local preset=$1 build=$ROOT/build/$1 stamp=$ROOT/build/$1/.configured_with wanted had="" had_reference="" log
  local libtorch=${XLSTM_LIBTORCH:-}
  if [[ -n $libtorch ]]; then libtorch=$(cd "$libtorch" && pwd -P); fi
  if [[ -f $build/build.ninja && -f $stamp ]]; then { read -r had && read -r had_reference; } <"$stamp" || true; fi
  local reference=${reference_dir-$had_reference}
  wanted="root=$ROOT libtorch=$libtorch prefix=${CMAKE_PREFIX_PATH:-} CC=${CC:-} CXX=${CXX:-}"
  if [[ $had == "$wanted" && $had_reference == "$reference" ]]; then return; fi

  say "configuring build/$preset"
  mkdir -p "$build"
  rm -f "$stamp"
  log=$build/configure.log
  if ! (cd "$ROOT" && cmake --preset "$preset" "-DXLSTM_LIBTORCH=$libtorch" "-DXLSTM_REFERENCE_DIR=$reference") \
    >"$log" 2>&1 </dev/null; then
    sed -n '/^CMake Error/,/^Call Stack/ {/^Call Stack/!p;}' "$log" >&2
    die "configuring failed; the log is $log"
  fi
  grep -A4 'CMake Warning' "$log" >&2 || true
  printf '%s\n%s\n' "$wanted" "$reference" >"$stamp"
}

# build PRESET [TARGET…]: configures if needed and builds; says nothing when there is nothing to do.
build() {
  local preset=$1 build=$ROOT/build/$1 quiet=() start=$SECONDS jobs
  shift
  configure "$preset"
  if [[ $(cd "$build" && ninja -n "$@" 2>&1) == 'ninja: no work to do.' ]]; then return; fi
  jobs=$(job_count)
  say "building build/$preset with $jobs jobs"
  if [[ ! -t 2 && $(ninja --help 2>&1) == *--quiet* ]]; then quiet=(--quiet); fi
  (cd "$build" && NINJA_STATUS='[%f/%t, %e s] ' ninja ${quiet[@]+"${quiet[@]}"} -j "$jobs" "$@") >&2 </dev/null ||
    die "the build failed; see above"
  say "built in $((SECONDS - start)) s"
}
