#!/usr/bin/env bash
# Builds each seeded fault of the ledger in, one at a time, and runs random histories until they catch it; a fault that they
# do not catch fails. Shows what each fault is, which rule caught it, and after how many histories.
#
#   scripts/mutants.sh [NUMBER...]     every fault if none is named
#
# A fault is a line behind `cfg!(mutant_N)` in crates/ledger/src, which no other build sets. A compiler wrapper for our own
# crates sets it, so that everything they depend on is built once. HISTORIES says how many to try (2000).
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"

faults=(
    "service before a takeover: both generations are paid for it"
    "a standby that refuses keeps what was on hold for it"
    "a provider's share is rounded up where a model is named"
    "a newcomer with a sponsor has more kept than is missing"
    "the last number of a lane counts again"
    "a watcher whose deposit the provider put up confirms its service"
    "each further answer to an audit forfeits the deposit again"
    "what a delegate spends in other assets counts against no budget"
    "a voucher for a model pays what was paid before once more"
    "memory that leases hold counts as free"
    "a veto that is changed counts beside the new vote"
    "an objection reaches back over nothing where somebody watches"
)
histories=${HISTORIES:-2000}
[[ $histories =~ ^[1-9][0-9]*$ ]] || die "\`$histories\` is not a number of histories"
if [ $# = 0 ]; then
    # shellcheck disable=SC2046  # numbers
    set -- $(seq ${#faults[@]})
fi

cd "$root"
# Apart from the usual builds: theirs stay as they are.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutants
# Each is built once, run once: neither increments nor lines help.
export CARGO_TARGET_DIR CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
mkdir -p "$CARGO_TARGET_DIR"
survived=()
printf '%-3s %-68s %-9s %s\n' "no" "fault" "histories" "caught by"
for n in "$@"; do
    [[ $n =~ ^[1-9][0-9]*$ ]] && [ "$n" -le ${#faults[@]} ] || die "there is no fault $n, only 1 to ${#faults[@]}"
    # The wrapper's path is part of what an artefact is known by, so that each fault has its own.
    wrapper=$CARGO_TARGET_DIR/mutant_$n
    printf '#!/bin/sh\nrustc=$1\nshift\nexec "$rustc" "$@" --cfg mutant_%s\n' "$n" >"$wrapper"
    chmod +x "$wrapper"
    log=$CARGO_TARGET_DIR/mutant_$n.log
    # shellcheck disable=SC2046  # no flag or one
    if ! RUSTC_WORKSPACE_WRAPPER=$wrapper cargo test $(cargo_flags) --quiet --package pasture-ledger --test histories --no-run >"$log" 2>&1; then
        cat "$log" >&2
        die "fault $n does not build"
    fi
    # shellcheck disable=SC2046  # no flag or one
    if RUSTC_WORKSPACE_WRAPPER=$wrapper HISTORIES=$histories RUST_BACKTRACE=0 \
        cargo test $(cargo_flags) --quiet --package pasture-ledger --test histories -- every_history >"$log" 2>&1 ||
        ! grep -q '^history [0-9]* broke' "$log"; then
        survived+=("$n")
        printf '%-3s %-68s %-9s %s\n' "$n" "${faults[n - 1]}" "$histories" "NOTHING"
        continue
    fi
    after=$(sed -n 's/^history [0-9]* broke after \([0-9]*\) others.*/\1/p' "$log" | head -n 1)
    # The rule is the first line of what the judge said; the ledger's own check names its rule further down.
    rule=$(grep -m 1 -A 1 'panicked at .*oracle\|panicked at .*zone.rs' "$log" | tail -n 1 | sed 's/^assertion .* failed: //' | cut -c 1-100)
    own=$(sed -n 's/^ *rule: "\(.*\)",$/\1/p' "$log" | head -n 1)
    printf '%-3s %-68s %-9s %s\n' "$n" "${faults[n - 1]}" "$((after + 1))" "${own:-$rule}"
done
[ ${#survived[@]} = 0 ] || die "not caught: ${survived[*]}"
