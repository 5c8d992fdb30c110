#!/usr/bin/env bash
# The tests that need a container engine and all programs; `make test` runs it after `make check`.
# Arguments go to the test programs.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

FARM_TEST_ENGINE=$(scripts/engine.sh base)
export FARM_TEST_ENGINE
scripts/examples.sh
# Builds all programs and tests before it runs the first, so that the black-box suite finds every program.
# shellcheck disable=SC2046  # no flag or one
cargo test $(cargo_flags) --workspace -- "$@"

scripts/dist-test.sh
