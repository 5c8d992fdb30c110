#!/usr/bin/env bash
# Makes a release in dist/: one stripped binary in an archive with its manual pages and completions, the archive's
# SHA-256, a bill of materials (CycloneDX), the installer, and with a container engine an image.
#
# Environment: DIST_BINARY (default: built here in the release profile), DIST_DIR (default: dist).
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

out=${DIST_DIR:-$root/dist}
binary=${DIST_BINARY:-}
if [ -z "$binary" ]; then
    # shellcheck disable=SC2046  # no flag or one
    cargo build $(cargo_flags) --release --package pasture-farm --bin farm
    binary=$(target_dir)/release/farm
fi
[ -x "$binary" ] || die "there is no program $binary"

machine=$(uname -m)
archive=farm-$machine-linux.tar.gz
stage=$(mktemp -d)
trap 'rm -rf -- "$stage"' EXIT
mkdir -p "$out" "$stage/bin" "$stage/share/farm" "$stage/share/systemd/user" \
    "$stage/share/bash-completion/completions" "$stage/share/zsh/site-functions" "$stage/share/fish/vendor_completions.d"
strip -o "$stage/bin/farm" "$binary"
farm=$stage/bin/farm
"$farm" --quiet man "$stage/share/man"
"$farm" completions bash >"$stage/share/bash-completion/completions/farm"
"$farm" completions zsh >"$stage/share/zsh/site-functions/_farm"
"$farm" completions fish >"$stage/share/fish/vendor_completions.d/farm.fish"
cp deploy/systemd/farm.service "$stage/share/systemd/user/"
cp LICENSE deploy/install.sh "$stage/share/farm/"
cargo xtask sbom >"$out/farm.cdx.json"
cp "$out/farm.cdx.json" "$stage/share/farm/"
# Same content, same bytes: names sorted, no owner, the time of the last commit.
made=$(git log -1 --format=%ct 2>/dev/null || printf '0')
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$made" -C "$stage" -cf - bin share | gzip -n9 >"$out/$archive"
(cd "$out" && sha256sum "$archive" >"$archive.sha256")
cp deploy/install.sh "$out/"
if [ "${DIST_IMAGE:-}" = yes ]; then
    engine=$(scripts/engine.sh base)
    docker --host "unix://$engine" build --quiet --tag pasture/farm -f deploy/container/Dockerfile "$stage" >&2
    say "dist: image pasture/farm"
fi
say "dist: $out/$archive, $(du -h "$out/$archive" | cut -f1); binary $(du -h "$farm" | cut -f1)"
