#!/usr/bin/env bash
# Builds the light verifier for wasm32-unknown-unknown and runs it in Node on real proofs, and on changed ones.
#
# No prebuilt standard library for wasm32 is at hand everywhere, so the one in Debian's rust-web-src is built with the compiler
# it belongs to (rustc-web); the pinned toolchain's cargo drives it. Missing packages are installed: as root, or after a question;
# with CI=true nobody is asked.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

missing=()
[ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ] || missing+=(rustc-web rust-web-src)
linker=$(command -v wasm-ld-22 || command -v wasm-ld || true)
[ -n "$linker" ] || missing+=(lld-22)
command -v node >/dev/null || missing+=(nodejs)
if [ ${#missing[@]} != 0 ]; then
    command -v apt-get >/dev/null || die "needs ${missing[*]}, and there is no apt-get to install them with"
    say "installing ${missing[*]}"
    as_root apt-get update -q >&2
    as_root apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
    linker=$(command -v wasm-ld-22 || command -v wasm-ld)
fi

# A folder of its own: another compiler's artifacts do not mix with the workspace's.
target=$(target_dir)/wasm
export CARGO_TARGET_DIR=$target RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
unset RUSTFLAGS RUSTC_WRAPPER
# shellcheck disable=SC2046  # no flag or one
cargo build $(cargo_flags) --quiet --package pasture-light --example wasm --release \
    -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown \
    --config "target.wasm32-unknown-unknown.linker=\"$linker\"" \
    --config 'profile.release.opt-level="s"' --config profile.release.lto=true --config profile.release.codegen-units=1 \
    --config 'profile.release.panic="abort"' --config profile.release.strip=true
node scripts/wasm.mjs "$target/wasm32-unknown-unknown/release/examples/wasm.wasm"
