#!/usr/bin/env bash
# Lets the container engine attach NVIDIA GPUs to containers: installs the vendor's container toolkit if it is missing, describes
# the GPUs for the container device interface (CDI), and tells Docker of both.
#
#   gpus.sh plan   says line by line what would be done, and changes nothing; no line: nothing is missing
#   gpus.sh        does it
#
# Everything goes to stderr but the lines of the plan. Needs root for what it changes and uses sudo where it is not. It installs no
# driver: that is a part of the kernel and wants a restart of the machine. Only what the system's own package sources have is
# installed; where they lack the toolkit, it says so and stops.
set -euo pipefail

cdi_spec=${PASTURE_CDI_SPEC:-/etc/cdi/nvidia.yaml}
docker_config=${PASTURE_DOCKER_CONFIG:-/etc/docker/daemon.json}

say() { printf '%s\n' "$*" >&2; }
die() { say "gpus: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installer() {
    local tool
    for tool in apt-get dnf zypper pacman; do
        if has "$tool"; then
            printf '%s\n' "$tool"
            return 0
        fi
    done
    return 1
}

install_toolkit() {
    local missing="nvidia-container-toolkit is not among this system's packages: add the vendor's package source first (NVIDIA's page
\"Installing the NVIDIA Container Toolkit\" says how), then run this again"
    case $(installer || true) in
        apt-get) as_root apt-get update && as_root apt-get install -y nvidia-container-toolkit || die "$missing" ;;
        dnf) as_root dnf install -y nvidia-container-toolkit || die "$missing" ;;
        zypper) as_root zypper --non-interactive install nvidia-container-toolkit || die "$missing" ;;
        pacman) as_root pacman -S --noconfirm --needed nvidia-container-toolkit || die "$missing" ;;
        *) die "this system's packages are not known here: install nvidia-container-toolkit, then run this again" ;;
    esac >&2
}

# A specification without ids knows devices by number only, which means another one after a restart.
describes_by_id() { [ -f "$cdi_spec" ] && grep -q 'GPU-' "$cdi_spec"; }
knows_runtime() { [ -f "$docker_config" ] && grep -q 'nvidia' "$docker_config"; }

plan() {
    has nvidia-ctk || printf 'install nvidia-container-toolkit%s\n' "$(installer >/dev/null && printf ' with %s' "$(installer)" || true)"
    describes_by_id || printf 'describe the GPUs by their ids in %s\n' "$cdi_spec"
    knows_runtime || printf 'add the NVIDIA runtime and CDI to %s, and restart Docker; running containers of Docker are interrupted\n' "$docker_config"
}

apply() {
    has nvidia-smi || die "nvidia-smi is missing: install the NVIDIA driver of this system first, and restart"
    has nvidia-ctk || install_toolkit
    has nvidia-ctk || die "nvidia-ctk is still missing"
    describes_by_id || as_root nvidia-ctk cdi generate --device-name-strategy=uuid --output="$cdi_spec" >&2
    if ! knows_runtime; then
        as_root nvidia-ctk runtime configure --runtime=docker --cdi.enabled --config="$docker_config" >&2
        if has systemctl && systemctl is-active --quiet docker; then
            as_root systemctl restart docker >&2
        else
            say "gpus: restart Docker, so that it reads $docker_config"
        fi
    fi
}

case ${1:-} in
    plan) plan ;;
    '') apply ;;
    *) die "unknown argument: $1" ;;
esac
