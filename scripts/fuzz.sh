#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer and coverage, and runs each for a bounded time; any crash fails.
# The toolchain is the one that everything else is built with: RUSTC_BOOTSTRAP lets it take the two flags that it guards.
#
#   scripts/fuzz.sh SECONDS [TARGET...]     every target if none is named
#
# What a target finds stays in fuzz/corpus (it goes on from there), what crashes in fuzz/artifacts; git ignores both.
# To see a crash again, run the line that says `again`; with -minimize_crash=1 -runs=10000 it looks for a shorter input.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"

seconds=${1:-20}
shift || true
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "\`$seconds\` is not a number of seconds"

cd "$root/fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, the flags are for our programs and not for build scripts.
flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    -Zsanitizer=address
    -Ccodegen-units=1
)
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}"
# shellcheck disable=SC2046  # no flag or one
cargo build --profile fuzz --target "$host" $(cargo_flags) --package pasture-fuzz --features libfuzzer --bins
built=$(target_dir)/$host/fuzz
"$built/seeds" corpus

if [ $# = 0 ]; then
    for source in fuzz_targets/*.rs; do set -- "$@" "$(basename -- "$source" .rs)"; done
fi
failed=()
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    say "fuzz $target: $seconds s"
    log=artifacts/$target/log
    # A unit that takes ten seconds or two gigabytes is a crash too.
    if "$built/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 >"$log" 2>&1; then
        awk '/^stat::number_of_executed_units/ { runs = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
             END { printf "  %d inputs, %d edges, no crash\n", runs, cov }' "$log" >&2
    else
        tail -n 60 "$log" >&2
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        say "  crashed; again: $built/$target fuzz/$input"
        failed+=("$target")
    fi
done
[ ${#failed[@]} = 0 ] || die "crashed: ${failed[*]}"
