#!/usr/bin/env bash
# The Metal kernels on an NVIDIA GPU: compiled by nvcc from the unchanged shaders, run by the programs and tests that
# otherwise run on the emulator, and watched by compute-sanitizer.
#   ./scripts/check_metal_cuda.sh                       builds the programs into build/metal_cuda/bin; needs no GPU
#   ./scripts/check_metal_cuda.sh --pack FILE.tar.xz    … and packs them with the libraries that they need, for a machine
#                                                       that cannot build them
#   ./scripts/check_metal_cuda.sh --run                 builds and runs them, about 10 minutes; needs an NVIDIA GPU
#   ./scripts/check_metal_cuda.sh --run --packed FILE.tar.xz     runs packed ones, with the libtorch of XLSTM_LIBTORCH or
#                                                       of python3's torch
# --build DIR: another build folder, for building and packing. --cuda DIR: the CUDA toolkit (/usr/local/cuda).
# Results are one table on stdout; logs are in build/metal_cuda/logs.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=gpu_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/gpu_lib.sh"
cd "$ROOT"

HERE=build/metal_cuda  # the programs' tests know this path
PROGRAMS="metal_cuda_self_check test_kernels_metal_cuda test_metal_cli_cuda xlstm_generate_metal_cuda xlstm_generate"
SHARDS=4  # of the tests under each tool, side by side
TOOL_SECONDS=300

build_dir=$HERE
cuda=/usr/local/cuda
pack=""
packed=""
run=no
while (($# > 0)); do
  case $1 in
    --run) run=yes ;;
    --pack | --packed | --build | --cuda)
      if (($# < 2)); then die "$1: expected a path, got nothing"; fi
      case $1 in
        --pack) pack=$2 ;;
        --packed) packed=$2 ;;
        --build) build_dir=$2 ;;
        --cuda) cuda=$2 ;;
      esac
      shift
      ;;
    *) die "$1: expected --run, --pack FILE, --packed FILE, --build DIR or --cuda DIR" ;;
  esac
  shift
done
PATH=$PATH:$cuda/bin

build_programs() {
  command -v nvcc >/dev/null || die "nvcc ($cuda/bin): expected the CUDA toolkit, 12.8 or later, got none"
  "$ROOT/scripts/setup.sh" >&2 </dev/null
  mkdir -p "$build_dir"
  if ! cmake -G Ninja -S "$ROOT" -B "$build_dir" -DCMAKE_BUILD_TYPE=Release -DXLSTM_METAL_CUDA=ON \
    "-DCMAKE_CUDA_COMPILER=$(command -v nvcc)" "-DXLSTM_LIBTORCH=${XLSTM_LIBTORCH:-}" >"$build_dir/configure.log" 2>&1; then
    tail -n 15 "$build_dir/configure.log" >&2
    die "configuring failed; the log is $build_dir/configure.log"
  fi
  say "building the Metal kernels as CUDA"
  ninja -C "$build_dir" -j "$(job_count)" metal_cuda >&2 </dev/null || die "the build failed; see above"
}

# --- Running ---------------------------------------------------------------------------------------------------------

# step WHAT LOG COMMAND…: must succeed.
step() {
  local what=$1 log=$LOGS/$2 start=$SECONDS result
  shift 2
  result="FAILED; see $log"
  if timeout 200 "$@" >"$log" 2>&1; then
    result=$(last_words "$log")
    result=${result:-ok}
  fi
  row "$what" "$result" $((SECONDS - start))
}

# sanitize TOOL LOG COMMAND…: 0 if the tool reports nothing and the program succeeds.
sanitize() {
  local tool=$1 log=$LOGS/$2 options=()
  shift 2
  # Room behind each allocation, so that an access past its end cannot meet the next one.
  if [[ $tool == memcheck && $(compute-sanitizer --help 2>&1) == *--padding* ]]; then options=(--padding 256); fi
  XLSTM_METAL_CUDA_LAUNCHES=$LOGS/launches.$tool timeout "$TOOL_SECONDS" compute-sanitizer --tool "$tool" \
    --error-exitcode 86 ${options[@]+"${options[@]}"} "$@" >"$log" 2>&1 || return 1
  found_nothing "$log"
}

summary_of() { sed -n 's/^=* *\(\(ERROR\|RACECHECK\) SUMMARY: .*\)/\1/p' "$1" | tail -n 1; }

# must_report TOOL MUTATION: a kernel that is broken on purpose.
must_report() {
  local tool=$1 mutation=$2 start=$SECONDS log=self_check.$2.$1.log result
  result="FAILED: not reported; see $LOGS/$log"
  sanitize "$tool" "$log" "$BIN/metal_cuda_self_check" "$mutation" || true
  if grep -q 'SUMMARY: [1-9]' "$LOGS/$log"; then result="reported, as it must be"; fi
  row "$tool of a kernel with: ${mutation//_/ }" "$result" $((SECONDS - start))
}

# All tests under a tool, in shards side by side.
sanitize_tests() {
  local tool=$1 start=$SECONDS shard pids=() bad="" log
  for ((shard = 0; shard < SHARDS; ++shard)); do
    GTEST_TOTAL_SHARDS=$SHARDS GTEST_SHARD_INDEX=$shard sanitize "$tool" "tests.$tool.$shard.log" \
      "$BIN/test_kernels_metal_cuda" --gtest_brief=1 &
    pids+=($!)
  done
  for ((shard = 0; shard < SHARDS; ++shard)); do
    log=$LOGS/tests.$tool.$shard.log
    wait "${pids[shard]}" || bad+=" $log ($(summary_of "$log"))"
  done
  echo "${bad:+FAILED:$bad}" >"$LOGS/tests.$tool.result"
  echo $((SECONDS - start)) >"$LOGS/tests.$tool.seconds"
}

# Kernels that no run under the tool has launched.
never_launched() {
  awk '{n[$1 " " $2] += $3} END {for (k in n) if (n[k] == 0) print k}' "$LOGS/launches.$1".* | sed -n '/^kernels\//p' | sort
}

run_programs() {
  local tool missing kernels pids=()
  command -v compute-sanitizer >/dev/null || die "compute-sanitizer ($cuda/bin): expected it, got none"
  begin_table
  mkdir -p "$HERE/share"
  ln -sfn "$ROOT" "$HERE/share/xlstm_generate"  # where the program looks for its model
  compute-sanitizer --version | grep -i version | tee -a "$LOGS/table.txt" || true

  step "sound kernel of the self-check" self_check.log "$BIN/metal_cuda_self_check" sound
  step "tests of the kernels" tests.log "$BIN/test_kernels_metal_cuda" --gtest_brief=1
  step "selftest --device mps, with the bundled model" selftest.log \
    "$BIN/xlstm_generate_metal_cuda" selftest --device mps --speed none
  step "tests of the program, goldens of the bundled model" cli.log "$BIN/test_metal_cli_cuda" --gtest_brief=1

  must_report racecheck missing_barrier
  must_report synccheck divergent_barrier
  must_report memcheck past_the_end
  say "tests under compute-sanitizer, at most $TOOL_SECONDS s"
  for tool in racecheck memcheck synccheck; do
    (
      result=clean
      sanitize "$tool" "self_check.$tool.log" "$BIN/metal_cuda_self_check" sound || result="FAILED; see $LOGS"
      echo "$result" >"$LOGS/self_check.$tool.result"
      result=clean
      sanitize "$tool" "generate.$tool.log" "$BIN/xlstm_generate_metal_cuda" --device mps --temp 0 -n 3 \
        -p "Once upon a time there was a fox" || result="FAILED; see $LOGS"
      echo "$result" >"$LOGS/generate.$tool.result"
    ) &
    pids+=($!)
    sanitize_tests "$tool" &
    pids+=($!)
  done
  wait "${pids[@]}"
  for tool in racecheck memcheck synccheck; do
    row "$tool of the sound kernel" "$(cat "$LOGS/self_check.$tool.result")" -
    row "$tool of a generation with the bundled model" "$(cat "$LOGS/generate.$tool.result")" -
    missing=$(cat "$LOGS/tests.$tool.result")
    row "$tool of the tests" "${missing:-clean}" "$(cat "$LOGS/tests.$tool.seconds")"
    kernels=$(awk '$1 ~ /^kernels\// {print $1, $2}' "$LOGS/launches.$tool".* | sort -u | wc -l)
    missing=$(never_launched "$tool")
    row "$tool: kernels it has seen" "$((kernels - $(grep -c . <<<"$missing" || true))) of $kernels" -
    if [[ -n $missing ]]; then
      printf 'NOT RUN under %s:\n%s\n' "$tool" "$missing" | tee -a "$LOGS/table.txt"
      failed=1
    fi
  done
}

if [[ -n $packed ]]; then
  [[ $run == yes && -z $pack ]] || die "--packed: expected --run and no --pack"
  unpack_programs "$packed"
  set_library_path
else
  build_programs
fi
if [[ -n $pack ]]; then pack_programs "$build_dir/bin" "$pack"; fi
if [[ $run == yes ]]; then
  [[ -n $packed || $build_dir == "$HERE" ]] || die "--run: expected the build folder $HERE, got $build_dir"
  BIN=$HERE/bin
  LOGS=$HERE/logs
  run_programs
  if ((failed)); then die "the Metal kernels as CUDA: a check failed; see above and $LOGS"; fi
  say "the Metal kernels as CUDA: ok"
fi
