#!/usr/bin/env bash
# Installs what building, running and testing needs and this machine lacks: a C compiler, make, curl, a static busybox, ip and iptables,
# Vulkan with Mesa's drivers, an ACME server for tests, and the Rust toolchain that rust-toolchain.toml names. Changes nothing where all of it is there.
#
# Asks before it uses sudo or downloads a toolchain; does not ask as root or with CI=true.
# The container engine is the business of scripts/engine.sh.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"

# Whether one of some patterns names a file.
has_file() {
    compgen -G "$1" >/dev/null && return
    shift
    [ $# -gt 0 ] && has_file "$@"
}

missing_packages() {
    command -v cc >/dev/null || printf 'gcc\n'
    # A compiler without the C library's headers and static archive builds nothing.
    [ -e /usr/include/stdio.h ] || printf 'libc6-dev\n'
    command -v make >/dev/null || printf 'make\n'
    command -v git >/dev/null || printf 'git\n'
    command -v pkg-config >/dev/null || printf 'pkg-config\n'
    command -v curl >/dev/null || printf 'curl\n'
    command -v flock >/dev/null || printf 'util-linux\n'
    # Tests make networks of their own.
    command -v ip >/dev/null || printf 'iproute2\n'
    command -v iptables-restore >/dev/null || printf 'iptables\n'
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf 'ca-certificates\n'
    [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || printf 'busybox-static\n'
    # The tests of crates/gpu compute on Mesa's adapter in software.
    has_file '/usr/lib*/libvulkan.so.1' '/usr/lib/*/libvulkan.so.1' || printf 'libvulkan1\n'
    has_file '/usr/share/vulkan/icd.d/lvp_icd*.json' || printf 'mesa-vulkan-drivers\n'
}

# Installs packages by their names in Debian.
apt_install() {
    say "setup: installing $*"
    # A machine with no package lists yet fails the first time.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2 && return
    as_root apt-get update -qq >&2 && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install these with your package manager and run this again: ${packages[*]}"
    apt_install "${packages[@]}"
}

# What one test of crates/gateway alone needs, and not every system has: an ACME server.
install_pebble() {
    command -v pebble >/dev/null && return
    { command -v apt-get >/dev/null && apt_install pebble; } ||
        say "setup: without pebble (https://github.com/letsencrypt/pebble) in PATH one test of crates/gateway fails"
}

# What the tests of crates/blobs alone need: a registry. Only its program is taken, because the package would have it serve at once.
install_registry() {
    command -v docker-registry >/dev/null && return
    local folder found=
    folder=$(mktemp -d)
    if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
        # A machine with no package lists yet fails the first time.
        (cd "$folder" && chmod 755 . && { apt-get download -qq docker-registry || { as_root apt-get update -qq && apt-get download -qq docker-registry; }; } &&
            dpkg -x docker-registry_*.deb . && as_root install -m 755 usr/bin/docker-registry /usr/local/bin/docker-registry) >&2 && found=yes
    fi
    rm -rf "$folder"
    [ -n "$found" ] || say "setup: without docker-registry (https://github.com/distribution/distribution) in PATH tests of crates/blobs fail"
}

install_rust() {
    command -v cargo >/dev/null && return 0
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        die "Rust is installed but not in PATH. Run:  . \"\$HOME/.cargo/env\"  and this again."
    fi
    [ "$(id -u)" = 0 ] || confirm "Rust is not installed. May I install it for $(id -un) with rustup (https://rustup.rs)" || die "install Rust, then run this again"
    curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none --no-modify-path >&2
    say "setup: Rust is in $HOME/.cargo/bin; add it to PATH with:  . \"\$HOME/.cargo/env\""
}

install_packages
install_pebble
install_registry
install_rust
PATH=$PATH:$HOME/.cargo/bin
cd "$root"
# rustup fetches the pinned toolchain and its components now if it has to, not in the middle of a test.
for tool in 'cargo --version' 'cargo clippy --version' 'cargo fmt --version'; do
    $tool >/dev/null || die "'$tool' does not work with the toolchain of rust-toolchain.toml"
done
