#!/usr/bin/env bash
# The tests that need a container engine and all programs; `make test` runs it after `make check`. Then the runtime's own suites
# once more, on Podman. Arguments go to the test programs.
#
# A machine that cannot run Podman passes without it, and the last lines say so.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# Suites of crates/runtime that every engine must pass; no other crate has tests of these names. Not `builds`: Podman refuses all of
# them, which `behaviour` checks.
suites=(behaviour brought hostile reach volumes)

FARM_TEST_ENGINE=$(scripts/engine.sh base)
export FARM_TEST_ENGINE
scripts/examples.sh
# Builds all programs and tests before it runs the first, so that the black-box suite finds every program. Runs all of them, whatever fails:
# who reads the end of a long run wants to know everything that is wrong.
# shellcheck disable=SC2046  # no flag or one
cargo test $(cargo_flags) --workspace --no-fail-fast -- "$@"

scripts/dist-test.sh

# `--workspace` again: without it cargo would choose other features for what is built already, and build it again.
if podman=$(scripts/engine.sh podman); then
    say "test: the suites of the runtime, on Podman"
    # shellcheck disable=SC2046  # no flag or one
    FARM_TEST_ENGINE=$podman cargo test $(cargo_flags) --workspace "${suites[@]/#/--test=}" -- "$@"
else
    # In the form of cargo's own closing lines: .ci/run shows and counts them.
    printf 'test result: NOT RUN ON PODMAN, which this machine cannot start (the reason is above). 0 passed; 0 failed; %d ignored\n' "${#suites[@]}"
fi
