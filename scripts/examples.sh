#!/usr/bin/env bash
# Builds the example programs that their Dockerfiles copy: static, so that they run FROM scratch.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, flags are for the program only and not for build scripts.
(
    cd "$root/examples/fold"
    # shellcheck disable=SC2046  # no flag or one
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --target "$host" $(cargo_flags)
)
if [ -n "${CARGO_TARGET_DIR:-}" ]; then built=$CARGO_TARGET_DIR; else built=$root/examples/fold/target; fi
install -m 0755 "$built/$host/release/fold" "$root/examples/fold/fold"
say "built examples/fold/fold"
