#!/usr/bin/env bash
# Finds a container engine, installs or starts one if there is none, and prints its socket path on stdout.
#
#   engine.sh          the socket of a running engine; installs and starts one if need be
#   engine.sh find     the socket of a running engine; changes nothing, exits 1 if there is none
#   engine.sh base     the same as no argument, and builds pasture/busybox:1 from busybox-static if it is missing
#   engine.sh podman   the socket of a Podman service of our own with the base image: the second engine, for tests
#   engine.sh stop     ends the engines that this script started, and no others
#
# Everything but the socket path goes to stderr. Asks before it uses sudo; does not ask as root, never asks with
# CI=true. An engine at /var/run/docker.sock is used as it is; one of our own keeps its data apart from it.
#
# Environment: PASTURE_ENGINE_RUN (sockets and log, /run/pasture), PASTURE_ENGINE_DATA (images, /var/lib/pasture/docker),
# PASTURE_PODMAN_DATA (the same of Podman, /var/lib/pasture/podman), PASTURE_ENGINE_WAIT (seconds to wait for it to answer, 60).
set -euo pipefail

run_dir=${PASTURE_ENGINE_RUN:-/run/pasture}
data_dir=${PASTURE_ENGINE_DATA:-/var/lib/pasture/docker}
podman_data=${PASTURE_PODMAN_DATA:-/var/lib/pasture/podman}
wait_seconds=${PASTURE_ENGINE_WAIT:-60}
system_socket=/var/run/docker.sock
own_socket=$run_dir/docker.sock
pid_file=$run_dir/docker.pid
log_file=$run_dir/dockerd.log
podman_socket=$run_dir/podman.sock
podman_pid_file=$run_dir/podman.pid
podman_log=$run_dir/podman.log
base_image=pasture/busybox:1
self=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")

say() { printf '%s\n' "$*" >&2; }
die() { say "engine: $*"; exit 1; }

answers() { # socket
    [ -S "$1" ] && curl -fs --max-time 5 --unix-socket "$1" http://engine/_ping >/dev/null 2>&1
}

find_socket() {
    local socket
    for socket in "$own_socket" "$system_socket"; do
        if answers "$socket"; then
            printf '%s\n' "$socket"
            return 0
        fi
    done
    return 1
}

# A socket that exists and refuses us is a question of rights, not of a missing engine.
explain_denied() {
    if [ -S "$system_socket" ] && [ ! -w "$system_socket" ]; then
        say "engine: $system_socket is there, but $(id -un) may not use it. To change that, run"
        say "    sudo usermod -aG docker $(id -un)"
        say "and log in again (members of that group are as good as root on this machine)."
        exit 1
    fi
}

# Runs this script again as root, if the user agrees.
become_root() { # arguments of this script
    local command="sudo env PASTURE_ENGINE_RUN=$run_dir PASTURE_ENGINE_DATA=$data_dir PASTURE_PODMAN_DATA=$podman_data PASTURE_ENGINE_WAIT=$wait_seconds $self $*"
    if ! command -v sudo >/dev/null; then
        die "needs root to install or start an engine. As root, run: $self $*"
    fi
    if [ "${CI:-}" = true ]; then
        exec sudo -n env "PASTURE_ENGINE_RUN=$run_dir" "PASTURE_ENGINE_DATA=$data_dir" "PASTURE_PODMAN_DATA=$podman_data" "PASTURE_ENGINE_WAIT=$wait_seconds" CI=true "$self" "$@"
    fi
    if [ ! -t 0 ]; then
        say "engine: no container engine is running, and starting one needs root. Run:"
        say "    $command"
        exit 1
    fi
    local answer
    printf 'No container engine is running. Install (if missing) and start Docker Engine with\n    %s\n? [y/N] ' "$command" >&2
    read -r answer
    case $answer in
    y | Y | yes) exec sudo env "PASTURE_ENGINE_RUN=$run_dir" "PASTURE_ENGINE_DATA=$data_dir" "PASTURE_PODMAN_DATA=$podman_data" "PASTURE_ENGINE_WAIT=$wait_seconds" "$self" "$@" ;;
    *) die "not started. When you want to: $command" ;;
    esac
}

install_packages() { # package names
    command -v apt-get >/dev/null || die "please install Docker Engine for this system (https://docs.docker.com/engine/install/) and run this again"
    say "engine: installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # A machine with no package lists yet fails the first time.
    if ! apt-get install -qq -y --no-install-recommends "$@" >&2; then
        apt-get update -qq >&2
        apt-get install -qq -y --no-install-recommends "$@" >&2
    fi
}

ensure_installed() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v curl >/dev/null || missing+=(curl)
    command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
    if [ ${#missing[@]} -gt 0 ]; then
        # Debian starts the packaged service; an engine of that kind is as good as ours and is used below.
        install_packages "${missing[@]}"
    fi
}

daemon_pid() { # pid file, program, socket: prints the pid of the daemon that we started, if it lives
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    # The kernel may have given the number to somebody else since: look at the command line too.
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -- "$2.*unix://$3" || return 1
    printf '%s\n' "$pid"
}

own_daemon_pid() { daemon_pid "$pid_file" dockerd "$own_socket"; }
own_podman_pid() { daemon_pid "$podman_pid_file" podman "$podman_socket"; }

wait_for() { # socket, name, log
    local i
    for ((i = 0; i < wait_seconds * 10; i++)); do
        answers "$1" && return 0
        sleep 0.1
    done
    tail -n 20 "$3" >&2 || true
    die "$2 did not answer within $wait_seconds s; its last words are above"
}

# Both run below /: a folder that goes away must not be the one they, and what they start, stand in.
start_daemon() {
    mkdir -p "$run_dir" "$data_dir"
    if ! own_daemon_pid >/dev/null; then
        rm -f "$pid_file"
        say "engine: starting dockerd on $own_socket (log: $log_file)"
        setsid env --chdir=/ dockerd -H "unix://$own_socket" --data-root "$data_dir" --exec-root "$run_dir/exec" --pidfile "$pid_file" \
            >"$log_file" 2>&1 </dev/null &
    fi
    wait_for "$own_socket" dockerd "$log_file"
}

# Everything of its own: images, networks, state; and no systemd, which containers and build machines often lack.
start_podman() {
    mkdir -p "$run_dir/podman" "$podman_data"
    if ! own_podman_pid >/dev/null; then
        rm -f "$podman_pid_file" "$podman_socket"
        say "engine: starting podman on $podman_socket (log: $podman_log)"
        setsid env --chdir=/ podman --root "$podman_data" --runroot "$run_dir/podman/run" --tmpdir "$run_dir/podman/tmp" \
            --network-config-dir "$podman_data/networks" --cgroup-manager cgroupfs --events-backend file \
            system service --time=0 "unix://$podman_socket" >"$podman_log" 2>&1 </dev/null &
        printf '%s\n' "$!" >"$podman_pid_file"
    fi
    wait_for "$podman_socket" podman "$podman_log"
}

ensure_podman() {
    if answers "$podman_socket"; then
        return
    fi
    [ "$(id -u)" = 0 ] || become_root podman
    local missing=()
    command -v podman >/dev/null || missing+=(podman)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v curl >/dev/null || missing+=(curl)
    command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
    if [ ${#missing[@]} -gt 0 ]; then
        install_packages "${missing[@]}"
    fi
    mkdir -p "$run_dir"
    (flock 9 && start_podman 9>&-) 9>"$run_dir/podman.lock"
}

ensure_engine() { # arguments of this script, for running it again as root
    local socket
    command -v curl >/dev/null || [ "$(id -u)" = 0 ] || become_root "$@"
    if socket=$(find_socket); then
        printf '%s\n' "$socket"
        return
    fi
    explain_denied
    [ "$(id -u)" = 0 ] || become_root "$@"
    ensure_installed
    if socket=$(find_socket); then
        printf '%s\n' "$socket"
        return
    fi
    # Two of us at once (a test run and a demo) must not start two.
    mkdir -p "$run_dir"
    (flock 9 && start_daemon 9>&-) 9>"$run_dir/engine.lock"
    printf '%s\n' "$own_socket"
}

busybox_path() { # a static busybox, or nothing
    local path
    for path in /bin/busybox /usr/bin/busybox; do
        if [ -x "$path" ] && ! ldd "$path" >/dev/null 2>&1; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

build_base() { # socket
    local socket=$1 busybox context
    if curl -fs --unix-socket "$socket" "http://engine/images/$base_image/json" >/dev/null; then
        return
    fi
    if ! busybox=$(busybox_path); then
        [ "$(id -u)" = 0 ] || become_root base
        install_packages busybox-static
        busybox=$(busybox_path) || die "no static busybox found after installing busybox-static"
    fi
    say "engine: building $base_image from $busybox"
    context=$(mktemp -d)
    # shellcheck disable=SC2064  # the path is known now and gone later
    trap "rm -rf '$context'" EXIT
    cp "$busybox" "$context/busybox"
    chmod 0755 "$context/busybox"
    cat >"$context/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "mkdir", "-p", "/usr/bin", "/usr/sbin", "/sbin", "/tmp", "/root", "/etc"]
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN chmod 1777 /tmp && echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd && echo 'nobody:x:65534:65534:nobody:/:/bin/false' >>/etc/passwd
CMD ["/bin/sh"]
DOCKERFILE
    local answer
    answer=$(tar -C "$context" -cf - . | curl -fsS --unix-socket "$socket" -X POST -H 'Content-Type: application/x-tar' \
        --data-binary @- "http://engine/build?t=$base_image&networkmode=none&forcerm=true")
    if ! curl -fs --unix-socket "$socket" "http://engine/images/$base_image/json" >/dev/null; then
        say "$answer"
        die "building $base_image failed; the engine's answer is above"
    fi
}

stop_daemon() { # pid, name, log
    local i
    [ "$(id -u)" = 0 ] || become_root stop
    say "engine: stopping $2 ($1)"
    kill -TERM "$1"
    for ((i = 0; i < wait_seconds * 10; i++)); do
        [ -d "/proc/$1" ] || return 0
        sleep 0.1
    done
    die "$2 ($1) did not stop within $wait_seconds s; see $3"
}

stop_daemons() {
    local pid found=
    if pid=$(own_daemon_pid); then
        found=1
        stop_daemon "$pid" dockerd "$log_file"
    fi
    if pid=$(own_podman_pid); then
        found=1
        stop_daemon "$pid" podman "$podman_log"
    fi
    [ -n "$found" ] || say "engine: no engine of ours is running"
}

case ${1:-} in
'') ensure_engine ;;
find) find_socket || die "no container engine is running; to start one: $self" ;;
base)
    socket=$(ensure_engine base)
    build_base "$socket"
    printf '%s\n' "$socket"
    ;;
podman)
    ensure_podman
    build_base "$podman_socket"
    printf '%s\n' "$podman_socket"
    ;;
stop) stop_daemons ;;
*)
    say "usage: $self [find | base | podman | stop]"
    exit 2
    ;;
esac
