#!/bin/sh
# Installs farm for the user who runs it; needs no root and changes no file but those it lists.
#
#   curl -fsSL BASE/install.sh | sh -s -- --from BASE     installs, or updates to, the version that lies there
#   sh install.sh --uninstall                             removes what was installed; keys and jobs' files stay
#
# BASE is where a release lies: an https address, http://127.0.0.1:PORT, or a folder. The archive is checked against its
# SHA-256 before anything of it is used. Also read from the environment: FARM_FROM (as --from), FARM_PREFIX (default ~/.local).
set -eu

say() { printf '%s\n' "$*" >&2; }
die() {
    say "install.sh: $*"
    exit 1
}

prefix=${FARM_PREFIX:-$HOME/.local}
from=${FARM_FROM:-}
mode=install
while [ $# -gt 0 ]; do
    case $1 in
    --from)
        [ $# -ge 2 ] || die "--from needs an address"
        from=$2
        shift 2
        ;;
    --prefix)
        [ $# -ge 2 ] || die "--prefix needs a folder"
        prefix=$2
        shift 2
        ;;
    --uninstall)
        mode=uninstall
        shift
        ;;
    -h | --help)
        say "usage: install.sh --from BASE [--prefix DIR] | --uninstall [--prefix DIR]"
        exit 0
        ;;
    *) die "unknown argument $1; try --help" ;;
    esac
done
case $prefix in
/*) ;;
*) die "the prefix must be an absolute path, and $prefix is not" ;;
esac
manifest=$prefix/share/farm/installed

# Removes what an earlier installation wrote, and nothing else.
remove_installed() {
    [ -f "$manifest" ] || return 0
    while IFS= read -r file; do
        case $file in
        bin/* | share/*) rm -f -- "$prefix/$file" ;;
        esac
    done <"$manifest"
    rm -f -- "$manifest"
    rmdir -- "$prefix/share/farm" 2>/dev/null || true
}

if [ "$mode" = uninstall ]; then
    [ -f "$manifest" ] || die "nothing is installed below $prefix"
    remove_installed
    say "farm is removed. Keys and contexts are still in ~/.config/farm, what jobs left in ~/.local/share/farm."
    exit 0
fi

[ -n "$from" ] || die "where does the release lie? give  --from BASE"
case $from in
https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | /*) ;;
*) die "$from: only https, this machine itself, or a folder with an absolute path" ;;
esac
[ "$(uname -s)" = Linux ] || die "this release is for Linux; on other systems build from source"
case $(uname -m) in
x86_64 | amd64) machine=x86_64 ;;
aarch64 | arm64) machine=aarch64 ;;
*) die "there is no release for $(uname -m); build from source" ;;
esac
command -v sha256sum >/dev/null || die "needs sha256sum"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM
fetch() { # name
    case $from in
    /*) cp -- "$from/$1" "$work/$1" 2>/dev/null ;;
    *)
        if command -v curl >/dev/null; then
            curl -fsSL --retry 3 -o "$work/$1" "$from/$1"
        else
            wget -q -O "$work/$1" "$from/$1"
        fi
        ;;
    esac || die "cannot fetch $from/$1"
}

archive=farm-$machine-linux.tar.gz
fetch "$archive.sha256"
fetch "$archive"
(cd "$work" && sha256sum -c --quiet "$archive.sha256") >&2 || die "$archive is not what its checksum says; nothing was installed"
mkdir "$work/new"
tar -xzf "$work/$archive" -C "$work/new" --no-same-owner
"$work/new/bin/farm" version >/dev/null || die "this machine cannot run it (it needs a GNU C library as new as the release's); nothing was changed"

remove_installed
mkdir -p "$prefix/bin" "$prefix/share/farm"
(cd "$work/new" && find bin share -type f | LC_ALL=C sort) >"$work/list"
while IFS= read -r file; do
    mkdir -p "$prefix/$(dirname -- "$file")"
    # Renamed into place, so that a running farm keeps its own file.
    cp -p -- "$work/new/$file" "$prefix/$file.new"
    mv -f -- "$prefix/$file.new" "$prefix/$file"
done <"$work/list"
cp -- "$work/list" "$manifest"

say "installed $("$prefix/bin/farm" version) in $prefix/bin"
case :$PATH: in
*:"$prefix/bin":*) ;;
*) say "  add it to your PATH:  export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
say "  try it:               farm doctor"
say "  remove it:            sh $prefix/share/farm/install.sh --uninstall --prefix $prefix"
