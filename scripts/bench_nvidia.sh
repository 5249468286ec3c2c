#!/usr/bin/env bash
# xlstm_generate and other implementations of xLSTM on one NVIDIA GPU, side by side in one table:
#   ./scripts/bench_nvidia.sh [--program FILE] [--out DIR] [--shape SHAPE] [--decode LIST] [--prefill LIST] [-r N]
# ours with weights in bfloat16, int8 and int4 and the state in float32 and bfloat16; Hugging Face transformers, eager and
# with CUDA graphs; NX-AI's Triton kernels with CUDA graphs (scripts/bench_nvidia.py tells how they are measured).
# --program: xlstm_generate built with the preset cuda (build/cuda/bin/xlstm_generate). --decode: numbers of sequences
# (1,8,64,256); --prefill: prompt lengths (2048,8192,16384,65536); 0: none.
# Results are in DIR (build/bench_nvidia), a file for each row: a run that was interrupted goes on where it stopped when
# it is called again. What cannot be measured is skipped and named below the table with its reason.
# Needs python3 with torch and transformers, for NX-AI's kernels the packages xlstm and mlstm_kernels too.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program=build/cuda/bin/xlstm_generate
out=build/bench_nvidia
shape=7b
decode=1,8,64,256
prefill=2048,8192,16384,65536
repeats=5
while (($# > 0)); do
  if (($# < 2)); then die "$1: expected a value, got nothing"; fi
  case $1 in
    --program) program=$2 ;;
    --out) out=$2 ;;
    --shape) shape=$2 ;;
    --decode) decode=$2 ;;
    --prefill) prefill=$2 ;;
    -r) repeats=$2 ;;
    *) die "$1: expected --program FILE, --out DIR, --shape SHAPE, --decode LIST, --prefill LIST or -r N" ;;
  esac
  shift 2
done
[[ -x $program ]] || die "--program ($program): expected xlstm_generate, got none; scripts/check_cuda.sh builds it"
[[ $decode,$prefill =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--decode, --prefill: expected numbers, got $decode and $prefill"
mkdir -p "$out"

# missing NAME TEST LIST: the values of a list that have no result yet, separated by commas.
missing() {
  local value values missing=""
  IFS=, read -r -a values <<<"$3"
  for value in "${values[@]}"; do
    if ((value > 0)) && [[ ! -f $out/$1.$2.$value.json ]]; then missing+=${missing:+,}$value; fi
  done
  echo "$missing"
}

# keep NAME TEST KEY: rows from stdin, each into a file of its own named by the value of KEY.
keep() {
  local line value
  while read -r line; do
    value=$(sed -n "s/.*\"$3\": *\([0-9]*\).*/\1/p" <<<"$line")
    printf '%s\n' "$line" >"$out/$1.$2.$value.json.partial"
    mv "$out/$1.$2.$value.json.partial" "$out/$1.$2.$value.json"
    rm -f "$out/$1.$2.$value.skipped"
    say "$1, $2 $value: $(sed -n 's/.*"tok_s": *\([0-9.]*\).*/\1/p' <<<"$line") tok/s"
  done
}

# ours NAME DTYPE STATE_DTYPE
ours() {
  local name=$1 test list key arguments value values
  for test in decode prefill; do
    list=$(missing "$name" "$test" "${!test}")
    if [[ -z $list ]]; then continue; fi
    if [[ $test == decode ]]; then
      key=batch arguments=(-p 0 -n 32 -b "$list")
    else
      key=n_prompt arguments=(-p "$list" -n 0 -b 1)
    fi
    "$program" bench --device cuda --shape "$shape" --limits --dtype "$2" --state-dtype "$3" -r "$repeats" \
      --no-progress -o jsonl "${arguments[@]}" 2>"$out/$name.$test.log" | keep "$name" "$test" "$key" || true
    list=$(missing "$name" "$test" "$list")
    IFS=, read -r -a values <<<"$list"
    for value in ${values[@]+"${values[@]}"}; do
      tail -n 1 "$out/$name.$test.log" >"$out/$name.$test.$value.skipped"
      say "skipped $name, $test $value: $(cat "$out/$name.$test.$value.skipped")"
    done
  done
}

# peer NAME: all its rows in one process, which loads the model once.
peer() {
  local rows="" test list
  for test in decode prefill; do
    # Prompts are no graph: those rows would be transformers' again.
    if [[ $1 == transformers-graph && $test == prefill ]]; then continue; fi
    list=$(missing "$1" "$test" "${!test}")
    if [[ -n $list ]]; then rows+=${rows:+,}$test:${list//,/,$test:}; fi
  done
  if [[ -z $rows ]]; then return; fi
  python3 "$ROOT/scripts/bench_nvidia.py" --peer "$1" --shape "$shape" --rows "$rows" -r "$repeats" --out "$out" ||
    say "$1 ended early"
}

# The program's libraries are those of python3's torch unless it finds its own.
torch=$(python3 -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))' 2>/dev/null) ||
  die "python3: expected one with torch, got none"
for folder in "$torch/lib" "$torch"/../nvidia/*/lib "$(dirname "$program")/../lib"; do
  if [[ -d $folder ]]; then LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; fi
done

(
  export LD_LIBRARY_PATH
  ours xlstm_generate bfloat16 float32
  ours xlstm_generate-state16 bfloat16 bfloat16
  ours xlstm_generate-int8 int8 float32
  ours xlstm_generate-int4 int4 float32
)
peer nx-ai-graph
peer transformers-graph
peer transformers
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || true
python3 "$ROOT/scripts/bench_nvidia.py" --table "$out"
