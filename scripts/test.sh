#!/usr/bin/env bash
# Sets up and builds what is missing, then runs the tests:
#   ./scripts/test.sh [--preset release|debug|asan|tsan] [ctest options, for example -R tokenizer]
# XLSTM_REFERENCE_DIR, if set, names a folder with third-party reference data for extra tests.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

preset=release
while (($# > 0)); do
  case $1 in
    --preset)
      if (($# < 2)); then die "--preset: expected release, debug, asan or tsan, got nothing"; fi
      preset=$2
      shift 2
      ;;
    --preset=*)
      preset=${1#--preset=}
      shift
      ;;
    *) break ;;
  esac
done
case $preset in
  release | debug | asan | tsan) ;;
  *) die "--preset: expected release, debug, asan or tsan, got $preset" ;;
esac

# shellcheck disable=SC2034  # read by build
reference_dir=""
if [[ -n ${XLSTM_REFERENCE_DIR:-} ]]; then
  [[ -d $XLSTM_REFERENCE_DIR ]] || die "XLSTM_REFERENCE_DIR: expected a folder, got $XLSTM_REFERENCE_DIR"
  reference_dir=$(cd "$XLSTM_REFERENCE_DIR" && pwd -P)
fi

"$ROOT/scripts/setup.sh" >&2 </dev/null
build "$preset" all
say "running the tests ($preset)"
cd "$ROOT"
exec ctest --preset "$preset" --parallel "$(core_count)" "$@"
