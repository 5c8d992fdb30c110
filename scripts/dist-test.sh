#!/usr/bin/env bash
# Installs a release from loopback as a user would, uses it, updates it, and removes it: nothing may be left. Also that a
# release whose bytes do not fit its checksum is refused. Uses the program that the tests built.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf -- "$work"' EXIT
DIST_BINARY=$(target_dir)/debug/farm DIST_DIR=$work/dist scripts/dist.sh

# busybox picks no port itself: try some until one is free and answers.
for _ in $(seq 20); do
    port=$((20000 + RANDOM % 20000))
    busybox httpd -f -p "127.0.0.1:$port" -h "$work/dist" 2>"$work/server.log" &
    server=$!
    if curl -fsS --retry 20 --retry-connrefused --retry-delay 0 --retry-max-time 10 -o /dev/null "http://127.0.0.1:$port/install.sh" 2>"$work/curl.log" \
        && kill -0 "$server" 2>/dev/null; then break; fi
    kill "$server" 2>/dev/null || true
    server=
done
[ -n "$server" ] || die "no web server: $(cat "$work/server.log" "$work/curl.log")"
base=http://127.0.0.1:$port
export HOME=$work/home
mkdir "$HOME"

curl -fsSL "$base/install.sh" | sh -s -- --from "$base"
"$HOME/.local/bin/farm" version
[ -s "$HOME/.local/share/man/man1/farm-run.1" ] || die "no manual page"
[ -s "$HOME/.local/share/systemd/user/farm.service" ] || die "no service"
grep -q '"CycloneDX"' "$HOME/.local/share/farm/farm.cdx.json" || die "no bill of materials"
# Again over itself, and then away.
sh "$HOME/.local/share/farm/install.sh" --from "$base" 2>/dev/null
sh "$HOME/.local/share/farm/install.sh" --uninstall
left=$(find "$HOME/.local" -type f)
[ -z "$left" ] || die "left behind: $left"

printf 'x' >>"$work/dist/farm-$(uname -m)-linux.tar.gz"
if sh deploy/install.sh --from "$base" 2>"$work/refused"; then die "a damaged archive was installed"; fi
grep -q 'nothing was installed' "$work/refused" || die "a damaged archive: $(cat "$work/refused")"
[ -z "$(find "$HOME/.local" -type f)" ] || die "a refused installation left files"
if sh deploy/install.sh --from http://example.org 2>"$work/refused"; then die "plain http was accepted"; fi
say "dist: installed, updated and removed; damaged and insecure releases refused"
