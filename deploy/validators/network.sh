#!/usr/bin/env bash
# Makes and runs the network of four validators of compose.yaml, on one machine.
#
#   network.sh init [GENESIS FLAGS]   a volume with keys for each validator, the genesis of all, everybody's place in it
#                                     (default flags: --name meadow --dev)
#   network.sh up                     starts them: docker compose if it is there, else the same with plain docker
#   network.sh status                 what each says of itself
#   network.sh down                   stops and removes the containers and their network; keys and ledgers stay
#   network.sh destroy --with-keys    removes the volumes too: nobody gets the keys back
#
# Environment: PASTURE_IMAGE (pasture/farm), PASTURE_PREFIX (pasture), PASTURE_SUBNET (10.77.0), PASTURE_PORT_1 to _4 (8731 to 8734),
# PASTURE_LAUNCH (where genesis, network.toml and LAUNCH.md go: ./launch), PASTURE_PLAIN=1 (never docker compose), DOCKER_HOST.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
export PASTURE_IMAGE=${PASTURE_IMAGE:-pasture/farm} PASTURE_PREFIX=${PASTURE_PREFIX:-pasture} PASTURE_SUBNET=${PASTURE_SUBNET:-10.77.0}
export PASTURE_PORT_1=${PASTURE_PORT_1:-8731} PASTURE_PORT_2=${PASTURE_PORT_2:-8732}
export PASTURE_PORT_3=${PASTURE_PORT_3:-8733} PASTURE_PORT_4=${PASTURE_PORT_4:-8734}
launch=${PASTURE_LAUNCH:-$PWD/launch}
network=$PASTURE_PREFIX-validators

say() { printf '%s\n' "$*" >&2; }
die() { say "network: $*"; exit 1; }
volume() { printf '%s-validator-%s' "$PASTURE_PREFIX" "$1"; }
address() { printf '%s.1%s' "$PASTURE_SUBNET" "$1"; }
port() { local name=PASTURE_PORT_$1; printf '%s' "${!name}"; }
composes() { [ -z "${PASTURE_PLAIN:-}" ] && docker compose version >/dev/null 2>&1; }
# A farm of the image, with a validator's volume and the launch folder.
farm() { # number, arguments ...
    local volume
    volume=$(volume "$1")
    shift
    docker run --rm --network none -e FARM_HOME=/tmp/home --tmpfs /tmp -v "$volume:/data" -v "$launch:/launch:ro" "$PASTURE_IMAGE" "$@"
}

init() { # genesis flags ...
    [ ! -e "$launch/genesis" ] || die "$launch has a genesis already: this network is made"
    docker image inspect "$PASTURE_IMAGE" >/dev/null 2>&1 || die "there is no image $PASTURE_IMAGE: make one with  DIST_IMAGE=yes make dist"
    [ $# -gt 0 ] || set -- --name meadow --dev
    mkdir -p "$launch"
    local n flags=()
    for n in 1 2 3 4; do
        docker volume create "$(volume "$n")" >/dev/null
        farm "$n" validator init --data /data/node --address "$(address "$n"):8740" >"$launch/validator-$n.json"
        flags+=(--validator "/launch/validator-$n.json")
    done
    # Nothing in the launch folder is secret: the keys stay in the volumes.
    docker run --rm --network none -e FARM_HOME=/tmp/home --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$launch:/launch" "$PASTURE_IMAGE" \
        genesis "$@" "${flags[@]}" --out /launch >&2
    chmod 644 "$launch/genesis" "$launch/network.toml"
    for n in 1 2 3 4; do
        farm "$n" validator join --data /data/node --genesis /launch/genesis --network /launch/network.toml >&2
    done
    say "made: $launch; start it with  $0 up"
}

up() {
    if composes; then
        docker compose -f "$here/compose.yaml" up --detach
        return
    fi
    docker network inspect "$network" >/dev/null 2>&1 || docker network create --subnet "$PASTURE_SUBNET.0/24" "$network" >/dev/null
    local n
    for n in 1 2 3 4; do
        docker volume inspect "$(volume "$n")" >/dev/null 2>&1 || die "validator $n has no keys yet: run  $0 init"
        docker run --detach --name "$network-validator-$n-1" --network "$network" --ip "$(address "$n")" \
            --publish "127.0.0.1:$(port "$n"):8730" --volume "$(volume "$n"):/data" -e FARM_HOME=/data/home -e FARM_LOG_FORMAT=json \
            --init --restart unless-stopped --stop-timeout 30 --read-only --tmpfs /tmp --cap-drop ALL --memory 1g \
            --security-opt no-new-privileges:true --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
            "$PASTURE_IMAGE" validator run --data /data/node --listen 0.0.0.0:8730 >/dev/null
        say "validator $n: API at http://127.0.0.1:$(port "$n")"
    done
}

status() {
    local n
    for n in 1 2 3 4; do
        say "validator $n:"
        docker exec -e FARM_HOME=/data/home "$network-validator-$n-1" farm --api-url http://127.0.0.1:8730 validator status || true
    done
}

down() {
    if composes; then
        docker compose -f "$here/compose.yaml" down
        return
    fi
    local n
    for n in 1 2 3 4; do
        docker stop "$network-validator-$n-1" >/dev/null 2>&1 || true
        docker rm --force "$network-validator-$n-1" >/dev/null 2>&1 || true
    done
    docker network rm "$network" >/dev/null 2>&1 || true
}

destroy() {
    [ "${1:-}" = --with-keys ] || die "this removes the keys of four validators for good: say so with --with-keys"
    down
    local n
    for n in 1 2 3 4; do docker volume rm "$(volume "$n")" >/dev/null 2>&1 || true; done
}

case "${1:-}" in
init | up | status | down | destroy) "$@" ;;
*) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
