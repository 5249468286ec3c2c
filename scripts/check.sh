#!/usr/bin/env bash
# Checks everything about the sources that needs no build:
#   ./scripts/check.sh [--no-tidy] [--tidy-all] [--base COMMIT] [--tsan]
# format (clang-format 14), include directions, files listed in CMake, references in the documents, shell scripts, the
# Metal shaders' syntax and address spaces (clang), and clang-tidy on the C++ files that differ from COMMIT (the merge
# base with the upstream branch, else HEAD) or on all.
# A tool that is missing skips its check with a line that says so.
# --tsan also builds what has threads and no libtorch with ThreadSanitizer and runs its tests: the thread pool, the
# schedulers, the CPU's tiles, the memory guard and the monitor.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

tidy=changed
base=""
tsan=no
arguments=("$@")
while (($# > 0)); do
  case $1 in
    --no-tidy) tidy=none ;;
    --tidy-all) tidy=all ;;
    --tsan) tsan=yes ;;
    --base)
      if (($# < 2)); then die "--base: expected a commit, got nothing"; fi
      base=$2
      shift
      ;;
    *) die "$1: expected --no-tidy, --tidy-all, --base COMMIT or --tsan" ;;
  esac
  shift
done

# ThreadSanitizer's programs cannot start at some of the random addresses that Linux places libraries at.
if [[ $tsan == yes && -z ${XLSTM_FIXED_ADDRESSES:-} ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
  XLSTM_FIXED_ADDRESSES=1 exec setarch "$(uname -m)" -R "$ROOT/scripts/check.sh" "${arguments[@]}"
fi

failed=0
# report NAME STATUS: one line for each check.
report() {
  printf '%-10s %s\n' "$1" "$2" >&2
  if [[ $2 == FAILED* ]]; then failed=1; fi
}

# check NAME COMMAND…: runs a check that prints what is wrong.
check() {
  local name=$1 output status=ok
  shift
  output=$("$@" 2>&1) || status=FAILED
  if [[ -n $output ]]; then printf '%s\n' "$output" >&2; fi
  report "$name" "$status"
}

# Tracked and new files that still exist, NUL-separated.
files() {
  git ls-files -z --cached --others --exclude-standard -- "$@" | while IFS= read -r -d '' file; do
    if [[ -f $file ]]; then printf '%s\0' "$file"; fi
  done
}

# The first of the named programs whose major version is 14: other versions format differently.
version_14() {
  local program
  for program in "$1-14" "$1"; do
    if [[ $("$program" --version 2>/dev/null) == *"version 14."* ]]; then
      echo "$program"
      return
    fi
  done
}

check_format() {
  files '*.cpp' '*.h' '*.cu' '*.mm' | { xargs -0 "$clang_format" --dry-run -Werror 2>&1 || true; } |
    sed -n 's/^\([^:]*:[0-9]*\):.*clang-format-violations.*/\1: not formatted/p' | sort -u -t: -k1,1
}

changed_sources() {
  local from=$base
  if [[ -z $from ]]; then from=$(git merge-base HEAD '@{upstream}' 2>/dev/null || echo HEAD); fi
  # Without such a commit (a first push) every file is new.
  if [[ $tidy == all ]] || ! git rev-parse -q --verify "$from^{commit}" >/dev/null; then
    files 'src/*.cpp' 'kernels/*.cpp' 'tests/*.cpp' 'benchmarks/*.cpp'
  else
    {
      git diff -z --name-only --diff-filter=d "$from" -- 'src/*.cpp' 'kernels/*.cpp' 'tests/*.cpp' 'benchmarks/*.cpp'
      git ls-files -z --others --exclude-standard -- 'src/*.cpp' 'kernels/*.cpp' 'tests/*.cpp' 'benchmarks/*.cpp'
    }
  fi
}

check_tidy() {
  local build=$ROOT/build/tidy
  # A compilation database of its own: clang cannot read the precompiled header of another compiler.
  if ! cmake -G Ninja -S "$ROOT" -B "$build" -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
    "-DXLSTM_LIBTORCH=${XLSTM_LIBTORCH:-}" >"$ROOT/build/tidy.log" 2>&1; then
    echo "cmake failed; the log is build/tidy.log"
    return 1
  fi
  changed_sources | xargs -0 -r -n 1 -P "$(job_count)" "$clang_tidy" -p "$build" --quiet 2>/dev/null
}

# In a subshell: a build that fails ends it.
check_tsan() (
  "$ROOT/scripts/setup.sh" >&2 </dev/null &&
    build tsan test_core test_schedule test_kernels_cpu_tiles test_memory test_monitor &&
    ctest --preset tsan --parallel "$(core_count)" \
      -R '^test_(schedule|kernels_cpu_tiles|memory|monitor|core[.]ThreadPool)' >&2
)

git rev-parse --git-dir >/dev/null 2>&1 || die "git ($ROOT): expected a git checkout, got none"
clang_format=$(version_14 clang-format)
if [[ -n $clang_format ]]; then
  # Formatted files print nothing.
  unformatted=$(check_format)
  if [[ -n $unformatted ]]; then
    printf '%s\n' "$unformatted" >&2
    report format "FAILED (clang-format -i puts it right)"
  else
    report format ok
  fi
else
  report format "skipped: clang-format 14 is not installed"
fi

check includes python3 scripts/check_includes.py
check files python3 scripts/check_files.py

if command -v shellcheck >/dev/null; then
  check shell bash -c 'shellcheck -S warning -x -P SCRIPTDIR scripts/*.sh .ci/run'
else
  report shell "skipped: shellcheck is not installed"
fi

status=0
output=$(./scripts/check_metal_syntax.sh 2>&1) || status=$?
if ((status == 77)); then
  report metal "skipped: clang 14 or later is not installed"
elif ((status)); then
  printf '%s\n' "$output" >&2
  report metal FAILED
else
  report metal ok
fi

if [[ $tidy != none ]]; then
  clang_tidy=$(version_14 clang-tidy)
  if [[ -n $clang_tidy ]]; then
    mkdir -p build
    check tidy check_tidy
  else
    report tidy "skipped: clang-tidy 14 is not installed"
  fi
fi

if [[ $tsan == yes ]]; then
  start=$SECONDS
  if check_tsan; then report tsan "ok ($((SECONDS - start)) s)"; else report tsan "FAILED ($((SECONDS - start)) s)"; fi
fi
exit $failed
