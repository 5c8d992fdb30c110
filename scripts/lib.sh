# Shared by the scripts here; sourced, not run. Everything people read goes to stderr.
# shellcheck shell=bash

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$(basename -- "$0"): $*"
    exit 1
}

# Where cargo puts what it builds.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$root/target}"; }

# A lock file that does not fit the manifests is an error where nobody looks.
cargo_flags() { [ "${CI:-}" != true ] || printf '%s\n' --locked; }

# Runs a command as root: directly, or with sudo after a question. With CI=true nobody is asked.
as_root() { # command...
    if [ "$(id -u)" = 0 ]; then
        "$@"
        return
    fi
    command -v sudo >/dev/null || die "needs root for: $*"
    if [ "${CI:-}" = true ]; then
        sudo -n "$@"
        return
    fi
    confirm "May I run: sudo $*" || die "not without that. Run it yourself, then this again."
    sudo "$@"
}

confirm() { # question
    [ "${CI:-}" = true ] && return 0
    [ -t 0 ] || die "$1? There is no terminal to ask on; set CI=true to agree."
    local answer
    printf '%s? [y/N] ' "$1" >&2
    read -r answer
    case $answer in y | Y | yes) return 0 ;; *) return 1 ;; esac
}
