#!/usr/bin/env bash
# The tests that need a container engine and all programs; `make test` runs it after `make check`.
# Arguments go to cargo test.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

scripts/engine.sh base >/dev/null
scripts/examples.sh
# Black-box tests start these programs; cargo builds only those of the package that it tests.
# shellcheck disable=SC2046  # no flag or one
cargo build $(cargo_flags) --package pasture-farm --package pasture-cheats
# shellcheck disable=SC2046  # no flag or one
cargo test $(cargo_flags) --workspace "$@"
