#!/usr/bin/env bash
# xlstm_generate and other implementations of xLSTM on one NVIDIA GPU, side by side in one table:
#   ./scripts/bench_nvidia.sh [--program FILE] [--out DIR] [--shape SHAPE] [--decode LIST] [--prefill LIST] [-r N]
#                             [--only LIST] [--seconds N]
# ours with weights in bfloat16, int8 and int4 and the state in float32 and bfloat16; NX-AI's Triton kernels, decoding
# with CUDA graphs; Hugging Face transformers, eager and with CUDA graphs (scripts/bench_nvidia.py tells how they are
# measured).
# --program: xlstm_generate built with the preset cuda (build/cuda/bin/xlstm_generate). --decode: numbers of sequences
# (1,8,64,256); --prefill: prompt lengths (2048,8192,16384,65536); 0: none. --only: columns of the table (all).
# --seconds: what is not measured by then is left out (0: no limit). The figures that matter most, in some 4 minutes:
#   ./scripts/bench_nvidia.sh --decode 1,64 --prefill 2048 -r 3 --seconds 240
# Results are in DIR (build/bench_nvidia), a file for each row: a run that was interrupted goes on where it stopped when
# it is called again. DIR/measured_with names shape, repeats, GPU, driver, program and packages; a call with others is
# refused. What cannot be measured is named below the table with its reason.
# Needs python3 with torch, triton and transformers; for NX-AI's kernels also the packages xlstm, mlstm_kernels, einops.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=gpu_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/gpu_lib.sh"
cd "$ROOT"

ALL_COLUMNS="xlstm_generate xlstm_generate-state16 xlstm_generate-int8 xlstm_generate-int4"
ALL_COLUMNS+=" nx-ai-graph nx-ai-xl-chunk transformers-graph transformers"

program=build/cuda/bin/xlstm_generate
out=build/bench_nvidia
shape=7b
decode=1,8,64,256
prefill=2048,8192,16384,65536
repeats=5
only=""
seconds=0
while (($# > 0)); do
  if (($# < 2)); then die "$1: expected a value, got nothing"; fi
  case $1 in
    --program) program=$2 ;;
    --out) out=$2 ;;
    --shape) shape=$2 ;;
    --decode) decode=$2 ;;
    --prefill) prefill=$2 ;;
    -r) repeats=$2 ;;
    --only) only=$2 ;;
    --seconds) seconds=$2 ;;
    *) die "$1: expected --program, --out, --shape, --decode, --prefill, -r, --only or --seconds" ;;
  esac
  shift 2
done
[[ -f $program && -x $program ]] ||
  die "--program ($program): expected xlstm_generate, got none; scripts/check_cuda.sh builds it"
[[ $decode,$prefill =~ ^(0|[1-9][0-9]*)(,(0|[1-9][0-9]*))*$ ]] ||
  die "--decode, --prefill: expected numbers, got $decode and $prefill"
[[ $repeats =~ ^[1-9][0-9]*$ ]] || die "-r: expected a number from 1, got $repeats"
[[ $seconds =~ ^(0|[1-9][0-9]*)$ ]] || die "--seconds: expected a number from 0, got $seconds"
for column in ${only//,/ }; do
  [[ " $ALL_COLUMNS " == *" $column "* ]] || die "--only: expected some of $ALL_COLUMNS, got $column"
done

# The program's libraries are those of python3's torch unless it finds its own.
torch=$(torch_folder)
libraries=${LD_LIBRARY_PATH:-}
for folder in "$torch/lib" "$torch"/../nvidia/*/lib "$(dirname "$program")/../lib"; do
  if [[ -d $folder ]]; then libraries=${libraries:+$libraries:}$folder; fi
done

# --- What is measured, and with what ---------------------------------------------------------------------------------

packages() {
  python3 - <<'PYTHON'
import importlib.metadata as metadata

def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"

print(", ".join(f"{name} {version(name)}" for name in ("torch", "triton", "transformers", "xlstm", "mlstm_kernels")))
PYTHON
}

measured_with() {
  local version gpu visible=${CUDA_VISIBLE_DEVICES:-0}
  version=$(LD_LIBRARY_PATH=$libraries "$program" --version) || die "--program ($program): it does not start"
  gpu=$(nvidia-smi -i "${visible%%,*}" --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null) ||
    die "nvidia-smi: expected an NVIDIA GPU, got none"
  printf '%s\n' "shape: $shape" "repeats: $repeats" "GPU, driver: $gpu" \
    "program: $version, sha256 $(sha256sum "$program" | cut -c 1-16)" "packages: $(packages)"
}

# only_in A B: the lines of A that B lacks, in one line.
only_in() { grep -v -x -F -e "$2" <<<"$1" | paste -s -d ';' -; }

require_same_conditions() {
  local now before
  now=$(measured_with)
  if [[ -f $out/measured_with ]]; then
    before=$(<"$out/measured_with")
    [[ $now == "$before" ]] || die "--out ($out): expected what its rows were measured with," \
      "$(only_in "$before" "$now"), got $(only_in "$now" "$before"); another --out begins anew"
  elif compgen -G "$out/*.json" >/dev/null; then
    die "--out ($out): expected the file measured_with beside the rows, got none; another --out begins anew"
  fi
  mkdir -p "$out"
  printf '%s\n' "$now" >"$out/measured_with"
}

# wanted COLUMN
wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }

# missing COLUMN TEST: the numbers of that test without a result, a line each.
missing() {
  local value values
  if ! wanted "$1"; then return 0; fi
  IFS=, read -r -a values <<<"${!2}"
  for value in "${values[@]}"; do
    if ((value > 0)) && [[ ! -f $out/$1.$2.$value.json ]]; then echo "$value"; fi
  done
}

# begin COLUMN TEST: its old reasons are void.
begin() {
  local value
  for value in $(missing "$1" "$2"); do rm -f "$out/$1.$2.$value.skipped"; done
}

# limited COMMAND…: within what is left of --seconds; 124 where nothing is. For a pipeline, whose process it becomes.
limited() {
  local left=$((seconds - SECONDS))
  if ((seconds == 0)); then exec "$@"; fi
  if ((left <= 0)); then return 124; fi
  exec timeout --foreground -k 5 "$left" "$@"
}

# explain STATUS LOG COLUMN TEST: the reason, for its rows that have neither result nor reason.
explain() {
  local value reason
  reason=$(tail -n 1 "$2" | cut -c 1-200)
  if (($1 == 124 || ($1 == 137 && seconds > 0 && SECONDS >= seconds))); then
    reason="the $seconds s of --seconds were over"
  elif (($1 > 128)); then
    reason="ended by signal $(($1 - 128)): $reason"
  fi
  for value in $(missing "$3" "$4"); do
    if [[ -f $out/$3.$4.$value.skipped ]]; then continue; fi
    printf '%s\n' "${reason:-exit code $1}" >"$out/$3.$4.$value.skipped"
    say "skipped $3, $4 $value: ${reason:-exit code $1}"
  done
}

# --- xlstm_generate --------------------------------------------------------------------------------------------------

# column_of DTYPE STATE_DTYPE
column_of() {
  case $1,$2 in
    bfloat16,float32) echo xlstm_generate ;;
    bfloat16,bfloat16) echo xlstm_generate-state16 ;;
    *) echo "xlstm_generate-$1" ;;
  esac
}

# keep TEST: rows from stdin, each into a file of its own.
keep() {
  local line value name key=n_prompt
  if [[ $1 == decode ]]; then key='batch'; fi
  while read -r line; do
    value=$(sed -n "s/.*\"$key\": *\([0-9]*\).*/\1/p" <<<"$line")
    name=$(column_of "$(text_of dtype <<<"$line")" "$(text_of state_dtype <<<"$line")").$1.$value
    printf '%s\n' "$line" >"$out/$name.json.partial"
    mv "$out/$name.json.partial" "$out/$name.json"
    say "$name: $(sed -n 's/.*"tok_s": *\([0-9.]*\).*/\1/p' <<<"$line") tok/s"
  done
}

# text_of KEY: its text in the row on stdin.
text_of() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }

# ours DTYPE STATE_DTYPE…: a process for each test, which makes the weights once.
ours() {
  local dtype=$1 test state states list status log arguments
  shift
  for test in decode prefill; do
    list="" states=""
    for state in "$@"; do
      if [[ -n $(missing "$(column_of "$dtype" "$state")" "$test") ]]; then
        states+=${states:+,}$state
        list+=$(missing "$(column_of "$dtype" "$state")" "$test")$'\n'
        begin "$(column_of "$dtype" "$state")" "$test"
      fi
    done
    if [[ -z $list ]]; then continue; fi
    list=$(sort -n -u <<<"$list" | sed '/^$/d' | paste -s -d , -)
    arguments=(-p 0 -n 32 -b "$list")
    if [[ $test == prefill ]]; then arguments=(-p "$list" -n 0 -b 1); fi
    log=$out/xlstm_generate.$dtype.$test.log
    say "xlstm_generate, weights $dtype, $test $list"
    status=0
    LD_LIBRARY_PATH=$libraries limited "$program" bench --device cuda --shape "$shape" --dtype "$dtype" \
      --state-dtype "$states" -r "$repeats" --no-progress -o jsonl "${arguments[@]}" 2>"$log" |
      keep "$test" || status=$?
    for state in ${states//,/ }; do explain "$status" "$log" "$(column_of "$dtype" "$state")" "$test"; done
  done
}

# --- The others ------------------------------------------------------------------------------------------------------

# peers COLUMN.TEST…: all rows of one library in one process, which makes the model once.
peers() {
  local name value rows="" status=0 log=$out/${1%%.*}.log
  for name in "$@"; do
    begin "${name%.*}" "${name#*.}"
    for value in $(missing "${name%.*}" "${name#*.}"); do rows+=${rows:+,}$name.$value; done
  done
  if [[ -z $rows ]]; then return 0; fi
  say "$rows"
  limited python3 "$ROOT/scripts/bench_nvidia.py" --shape "$shape" --rows "$rows" -r "$repeats" --out "$out" \
    2>&1 | tee "$log" >&2 || status=$?
  for name in "$@"; do explain "$status" "$log" "${name%.*}" "${name#*.}"; done
}

require_same_conditions
ours bfloat16 float32 bfloat16
peers nx-ai-graph.decode nx-ai-graph.prefill nx-ai-xl-chunk.prefill
# Prompts are no graph.
peers transformers-graph.decode transformers.decode transformers.prefill
ours int8 float32
ours int4 float32
python3 "$ROOT/scripts/bench_nvidia.py" --table "$out"
