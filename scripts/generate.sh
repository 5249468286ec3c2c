#!/usr/bin/env bash
# Sets up and builds what is missing, then runs xlstm_generate with all the arguments:
#   ./scripts/generate.sh -p "Once upon a time"
# Messages of the set-up go to stderr; stdout, signals and exit code are the program's.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$ROOT/scripts/setup.sh" >&2 </dev/null
build release xlstm_generate
exec "$ROOT/build/release/bin/xlstm_generate" "$@"
