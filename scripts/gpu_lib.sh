# Shared by the scripts that check programs on an NVIDIA GPU, which may be another machine than the one that builds them;
# sourced behind lib.sh, not run.
# The scripts set HERE, the build folder below ROOT that holds bin, lib and logs where programs run, PROGRAMS, and LOGS.
# shellcheck shell=bash

PACK_LIMIT=$((50 * 1024 * 1024))  # bytes

# Shared libraries of the programs in folder $1 that neither every Linux system nor torch's wheels have.
carried_libraries() {
  local program
  for program in $PROGRAMS; do ldd "$1/$program"; done |
    sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
    grep -v -E '/(libc|libm|libdl|librt|libutil|libpthread|libgcc_s|libstdc\+\+)\.so|/torch/lib/|/nvidia/|/cuda|ld-linux'
}

# pack_programs BIN FILE: the programs in folder BIN, with the libraries that they need beside torch.
pack_programs() {
  local bin=$1 pack=$2 folder program library size
  folder=$(mktemp -d)
  mkdir "$folder/bin" "$folder/lib"
  for program in $PROGRAMS; do strip -o "$folder/bin/$program" "$bin/$program"; done
  while read -r library; do cp -L "$library" "$folder/lib/"; done < <(carried_libraries "$bin")
  tar -C "$folder" -cJf "$pack" bin lib
  rm -rf "$folder"
  size=$(stat -c %s "$pack")
  if ((size > PACK_LIMIT)); then die "$pack: expected at most $PACK_LIMIT bytes, got $size"; fi
  say "packed $pack, $((size / 1024)) KB"
}

unpack_programs() {
  mkdir -p "$HERE"
  tar -C "$HERE" -xJf "$1"
}

# torch's folder: its libraries are in lib, those of CUDA in nvidia/*/lib beside it.
torch_folder() {
  if [[ -n ${XLSTM_LIBTORCH:-} ]]; then
    echo "$XLSTM_LIBTORCH"
  else
    python3 -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))' 2>/dev/null ||
      die "libtorch: expected XLSTM_LIBTORCH or a python3 with torch, got neither"
  fi
}

set_library_path() {
  local torch folder
  torch=$(torch_folder)
  LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  for folder in "$torch"/../nvidia/*/lib; do
    if [[ -d $folder ]]; then LD_LIBRARY_PATH+=:$folder; fi
  done
  if [[ -d $HERE/lib ]]; then LD_LIBRARY_PATH=$ROOT/$HERE/lib:$LD_LIBRARY_PATH; fi
  export LD_LIBRARY_PATH
}

# Begins the logs, with a table whose first row is the GPU.
begin_table() {
  command -v nvidia-smi >/dev/null || die "nvidia-smi: expected a machine with an NVIDIA GPU, got none"
  rm -rf "$LOGS"
  mkdir -p "$LOGS"
  nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader | tee "$LOGS/table.txt"
}

failed=0
# row WHAT RESULT SECONDS
row() {
  printf '%-62s %-44s %5s s\n' "$1" "$2" "$3" | tee -a "$LOGS/table.txt"
  # shellcheck disable=SC2034  # read by the scripts
  if [[ $2 == FAILED* ]]; then failed=1; fi
}

# What a program's last words say: tests or selftest cases passed, or nothing.
last_words() {
  sed -n 's/^\[  PASSED  \] \(.*\)\./\1 passed/p; s/^\([0-9]* passed, [0-9]* failed\)$/\1/p' "$1" | tail -n 1
}

# True if the log of a compute-sanitizer says that it found nothing. racecheck's warnings leave the exit code alone.
found_nothing() { grep -q -E 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' "$1"; }
