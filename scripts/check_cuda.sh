#!/usr/bin/env bash
# The CUDA backend: built where there is a compiler, checked and measured where there is an NVIDIA GPU.
#   ./scripts/check_cuda.sh                       builds the programs into build/cuda; needs nvcc, no GPU
#   ./scripts/check_cuda.sh --compile             compiles the CUDA code alone; without nvcc it says that it was not run
#   ./scripts/check_cuda.sh --pack FILE.tar.xz    … and packs them with the libraries that they need beside torch, for a
#                                                 machine that cannot build them
#   ./scripts/check_cuda.sh --run                 builds and runs the kernels' tests, the selftest, and the program's tests
#                                                 with the bundled model's goldens; needs an NVIDIA GPU
#   ./scripts/check_cuda.sh --run --packed FILE.tar.xz      the same with packed programs, in a checkout of their version,
#                                                 with the libtorch of XLSTM_LIBTORCH or of python3's torch
# With --run also, after the tests or, with --no-tests, instead of them:
#   --sanitize    the kernels' tests and a short generation under compute-sanitizer's memcheck and racecheck
#   --bench       speed of the 7B shape: decoding of 1 to 256 sequences in bfloat16, int8 and int4 with the state in
#                 float32 and bfloat16, prompts of 2k to 64k tokens, each with its share of the GPU's limits
# --filter PATTERN chooses among the kernels' tests (GoogleTest's, all by default).
# Each part prints PASSED, SKIPPED or FAILED and its seconds; what follows a failure runs all the same.
# The table is on stdout; logs are in build/cuda/logs.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=gpu_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/gpu_lib.sh"
cd "$ROOT"

HERE=build/cuda  # the programs' tests know this path
BIN=$HERE/bin
LOGS=$HERE/logs
PROGRAMS="xlstm_generate test_kernels_cuda_gpu test_cuda_cli_gpu"
PART_SECONDS=400
SHARDS=8  # of the kernels' tests, side by side

pack=""
packed=""
filter="*"
compile=no run=no tests=yes sanitize=no bench=no
while (($# > 0)); do
  case $1 in
    --compile) compile=yes ;;
    --run) run=yes ;;
    --no-tests) tests=no ;;
    --sanitize) sanitize=yes ;;
    --bench) bench=yes ;;
    --pack | --packed | --filter)
      if (($# < 2)); then die "$1: expected a value, got nothing"; fi
      case $1 in
        --pack) pack=$2 ;;
        --packed) packed=$2 ;;
        --filter) filter=$2 ;;
      esac
      shift
      ;;
    *) die "$1: expected --compile, --run, --no-tests, --sanitize, --filter PATTERN, --bench, --pack FILE or --packed FILE" ;;
  esac
  shift
done
if [[ $run == no && ($sanitize == yes || $bench == yes || -n $packed) ]]; then
  die "--sanitize, --bench, --packed: expected them with --run"
fi
if [[ $compile == yes && ($run == yes || -n $pack) ]]; then die "--compile: expected nothing beside it"; fi
if [[ -n $pack && -n $packed ]]; then die "--pack: expected no --packed beside it"; fi

build_programs() {
  PATH=$PATH:/usr/local/cuda/bin command -v nvcc >/dev/null ||
    die "nvcc (PATH, /usr/local/cuda/bin): expected the CUDA toolkit, 12.8 or later, got none"
  "$ROOT/scripts/setup.sh" >&2 </dev/null
  # shellcheck disable=SC2086  # a list of words
  build cuda $PROGRAMS
}

# --- Running ---------------------------------------------------------------------------------------------------------

# part WHAT LOG COMMAND…: must succeed. The end of the log of one that does not goes to stderr.
part() {
  local what=$1 log=$LOGS/$2 start=$SECONDS status=0 words
  shift 2
  timeout "$PART_SECONDS" "$@" >"$log" 2>&1 || status=$?
  if ((status == 0)); then
    words=$(last_words "$log")
    row "$what" "PASSED${words:+: ${words% passed}}" $((SECONDS - start))
  else
    row "$what" "FAILED: exit code $status; see $log" $((SECONDS - start))
    grep -E '^FAIL |FAILED|^error:|Failure' "$log" | head -n 12 >&2 || true
    tail -n 3 "$log" >&2
  fi
}

# in_shards WHAT LOG COMMAND…: the kernels' tests that --filter chooses, in shards side by side, each by COMMAND and the
# test program. The processor computes what the results are compared with: all shards together have its threads once.
in_shards() {
  local what=$1 log=$2 start=$SECONDS threads shard passed pids=() bad=""
  shift 2
  threads=$(($(nproc) / SHARDS))
  for ((shard = 0; shard < SHARDS; ++shard)); do
    OMP_NUM_THREADS=$((threads > 0 ? threads : 1)) GTEST_TOTAL_SHARDS=$SHARDS GTEST_SHARD_INDEX=$shard \
      "$@" "$BIN/test_kernels_cuda_gpu" --gtest_brief=1 "--gtest_filter=$filter" >"$LOGS/$log.$shard.log" 2>&1 &
    pids+=($!)
  done
  for ((shard = 0; shard < SHARDS; ++shard)); do
    wait "${pids[shard]}" || bad+=" $log.$shard.log"
  done
  passed=$(awk '/^\[  PASSED  \]/ { n += $4 } END { print n + 0 }' "$LOGS/$log".*.log)
  if ((passed == 0)); then bad+=" no test ran"; fi
  if [[ -n $bad ]]; then
    grep -h -E 'FAILED|Failure' "$LOGS/$log".*.log | head -n 12 >&2 || true
    row "$what" "FAILED: see $LOGS:$bad" $((SECONDS - start))
  else
    row "$what" "PASSED: $passed tests" $((SECONDS - start))
  fi
}

run_tests() {
  part "the program finds the GPU" info.log "$BIN/xlstm_generate" info --device cuda
  grep -E '^  cuda:' "$LOGS/info.log" | tee -a "$LOGS/table.txt" || true
  in_shards "tests of the kernels $filter" kernels timeout "$PART_SECONDS"
  part "selftest --device cuda, with the bundled model" selftest.log "$BIN/xlstm_generate" selftest --device cuda
  grep '^speed ' "$LOGS/selftest.log" | tee -a "$LOGS/table.txt" || true
  part "tests of the program, goldens of the bundled model" program.log "$BIN/test_cuda_cli_gpu" --gtest_brief=1
}

# under TOOL COMMAND…: 0 if the tool reports nothing and the program succeeds.
under() {
  local tool=$1 output status=0
  shift
  output=$(timeout "$PART_SECONDS" compute-sanitizer --tool "$tool" --error-exitcode 86 "$@" 2>&1) || status=$?
  echo "$output"
  found_nothing /dev/stdin <<<"$output" || status=1
  return "$status"
}

sanitized() {
  local tool=$1 start result=PASSED
  in_shards "$tool of the kernels' tests $filter" "tests.$tool" under "$tool"
  start=$SECONDS
  under "$tool" "$BIN/xlstm_generate" --device cuda --temp 0 -n 3 -p "Once upon a time there was a fox" \
    >"$LOGS/generate.$tool.log" || result="FAILED: see $LOGS/generate.$tool.log"
  row "$tool of a generation with the bundled model" "$result" $((SECONDS - start))
}

run_sanitizer() {
  local what="compute-sanitizer" log=$LOGS/sanitizer.log
  if ! command -v compute-sanitizer >/dev/null; then
    row "$what" "SKIPPED: it is not installed" 0
    return
  fi
  # It does not support every kind of virtual machine.
  timeout 60 compute-sanitizer "$BIN/xlstm_generate" info --device cuda >"$log" 2>&1 || true
  if grep -q -i 'not supported' "$log"; then
    row "$what" "SKIPPED: it does not support this machine" 0
    return
  fi
  sanitized memcheck
  sanitized racecheck
}

run_bench() {
  local command=("$BIN/xlstm_generate" bench --device cuda --shape 7b --limits -r 3 -o md --no-progress) dtype
  for dtype in bfloat16 int8 int4; do
    part "speed: decoding, $dtype" "bench.decode.$dtype.log" "${command[@]}" -p 0 -n 32 -b 1,8,64,256 --dtype "$dtype" \
      --state-dtype float32,bfloat16
  done
  part "speed: prompts, bfloat16" bench.prefill.log "${command[@]}" -p 2048,8192,16384,65536 -n 0 --dtype bfloat16
  grep -h -E '^\||limits of|warning' "$LOGS"/bench.*.log | tee -a "$LOGS/table.txt" || true
}

# Where the program looks for what ships with it.
link_shared_files() {
  local share=$HERE/share/xlstm_generate
  mkdir -p "$share/goldens"
  ln -sfn "$ROOT/configs" "$share/configs"
  ln -sfn "$ROOT/models" "$share/models"
  ln -sfn "$ROOT/tests/data/goldens/tales" "$share/goldens/tales"
}

run_programs() {
  PATH=$PATH:/usr/local/cuda/bin
  begin_table
  set_library_path
  link_shared_files
  if [[ $tests == yes ]]; then run_tests; fi
  if [[ $sanitize == yes ]]; then run_sanitizer; fi
  if [[ $bench == yes ]]; then run_bench; fi
}

if [[ $compile == yes ]]; then
  if ! PATH=$PATH:/usr/local/cuda/bin command -v nvcc >/dev/null; then
    echo "cuda       NOT RUN: no nvcc"
    exit 0
  fi
  "$ROOT/scripts/setup.sh" >&2 </dev/null
  build cuda xlstm_cuda_device_code xlstm_cuda_runtime
  echo "cuda       compiles"
  exit 0
fi
if [[ -n $packed ]]; then
  unpack_programs "$packed"
else
  build_programs
fi
if [[ -n $pack ]]; then pack_programs "$BIN" "$pack"; fi
if [[ $run == yes ]]; then
  run_programs
  if ((failed)); then die "CUDA: a check failed; see above and $LOGS"; fi
  say "CUDA: ok"
fi
