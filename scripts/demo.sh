#!/usr/bin/env bash
# `make demo`: a network on this machine, two jobs, and a provider that cheats.
#
# Installs what is missing (asks before sudo; not as root or with CI=true), builds, and then runs in under two minutes.
# All it writes is in a temporary folder, the build folder and the container engine's image cache; all it starts, it
# ends. Exits 0 only if every act went as it should.
set -euo pipefail
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# Longest wait for the network to answer and for the dishonest provider to show its offer, in seconds.
ready_seconds=60
# Longest wait for a process to end after it was asked to, in seconds.
stop_seconds=20
# Region by which the third act asks for the dishonest provider.
cheat_region=local-cheat

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
[ -t 1 ] || heading() { printf '\n== %s\n' "$*"; }

# ---- what is missing, and the build ---------------------------------------------------------------------------------

scripts/setup.sh
PATH=$PATH:$HOME/.cargo/bin
engine=$(scripts/engine.sh base)
bin=$(target_dir)/debug
if [ -x "$bin/farm" ]; then
    say "building what has changed ..."
else
    # 24 minutes of one core, most of it for dependencies, which are built once.
    say "building everything for the first time: about $((24 / $(nproc) + 1)) minutes on this machine ..."
fi
# shellcheck disable=SC2046  # no flag or one
cargo build $(cargo_flags) --package pasture-farm --package pasture-cheats
scripts/examples.sh

# ---- the end, also of a failure -------------------------------------------------------------------------------------

home=$(mktemp -d "${TMPDIR:-/tmp}/pasture-demo.XXXXXX")
export FARM_HOME=$home/farm
mkdir -p "$FARM_HOME"
pids=()
began=$SECONDS

# Containers of the demo's own nodes; another network on this machine may use the same engine.
nodes=()
labelled_containers() {
    local node
    for node in "${nodes[@]}"; do
        curl -fsS --get --unix-socket "$engine" http://engine/containers/json \
            --data-urlencode 'all=1' --data-urlencode "filters={\"label\":[\"pasture.owner=$node\"]}" | grep -o '"Id":"[0-9a-f]*"' || true
    done
}
note_nodes() {
    mapfile -t nodes < <("$bin/farm" offers --json | grep -o '"node":"[0-9a-f]*"' | cut -d'"' -f4)
}

stop_all() { # last started, first stopped
    local i pid waited
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        pid=${pids[i]}
        kill -TERM "$pid" 2>/dev/null || continue
        for ((waited = 0; waited < stop_seconds * 10; waited++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        if kill -KILL "$pid" 2>/dev/null; then
            say "demo: process $pid did not end within $stop_seconds s and was killed"
            failed=yes
        fi
    done
    pids=()
}

finish() {
    local status=$? failed=''
    trap - EXIT INT TERM
    stop_all
    if [ -n "$(labelled_containers)" ]; then
        say "demo: containers were left behind"
        failed=yes
    fi
    if [ "$status" != 0 ] || [ -n "$failed" ]; then
        say "demo: FAILED. The last lines of its logs:"
        tail -n 15 "$home"/*.log >&2 || true
        say "demo: everything it wrote is kept in $home"
        exit $((status == 0 ? 1 : status))
    fi
    rm -rf "$home"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wait_for() { # what, pid, command...
    local what=$1 pid=$2 waited
    shift 2
    for ((waited = 0; waited < ready_seconds * 5; waited++)); do
        "$@" >/dev/null 2>&1 && return 0
        kill -0 "$pid" 2>/dev/null || die "$what ended before it was ready"
        sleep 0.2
    done
    die "$what was not ready within $ready_seconds s"
}

shown() { # command...: shows a farm command and runs it
    printf '$ %s\n' "$*"
    "$bin/$1" "${@:2}" </dev/null
}

# ---- the network ----------------------------------------------------------------------------------------------------

heading "A network on this machine: validator, provider and gateway in one process"
"$bin/farm" dev --data "$home/dev" --listen 127.0.0.1:0 </dev/null >"$home/dev.out" 2>"$home/dev.log" &
pids+=($!)
wait_for 'the network' "${pids[0]}" grep -q . "$home/dev.out"
wait_for 'the network' "${pids[0]}" "$bin/farm" offers
cat "$home/dev.out"
note_nodes
shown farm offers

# ---- act 1 and 2: honest work ---------------------------------------------------------------------------------------

heading "Act 1: a folder with a Dockerfile"
shown farm run examples/hello --out "$home/hello"
test -s "$home/hello/page.html" || die "examples/hello brought nothing back"

heading "Act 2: a search for the best fold of a protein, with a result to bring back"
shown farm run examples/fold --out "$home/fold"
grep -q '"energy": -3[0-9]' "$home/fold/best.json" || die "examples/fold brought back no fold"
cat "$home/fold/best.txt"

# ---- act 3: a provider that cheats ----------------------------------------------------------------------------------
# `farm-cheat` (crates/cheats) is the honest provider around a runtime that kills containers and says that all is well.

heading "Act 3: a provider that kills a container and goes on proving"
api_url=$(grep -o 'http://127\.0\.0\.1:[0-9]*' "$home/dev.out" | head -n 1)
"$bin/farm-cheat" --data "$home/cheat" --api-url "$api_url" --engine "$engine" --region "$cheat_region" --kill-after-ms 6000 \
    </dev/null >"$home/cheat.out" 2>"$home/cheat.log" &
pids+=($!)
offers_cheat() { "$bin/farm" offers --json | grep -q "$cheat_region"; }
wait_for 'the dishonest provider' "${pids[1]}" offers_cheat
note_nodes
# The job fails: that is the point. What matters is from when nothing was charged.
code=0
shown farm run examples/watched --region "$cheat_region" || code=$?
[ "$code" != 0 ] || die "a job whose container was killed may not end with 0"
shown farm receipt watched --wait --details
# ---- end of act 3 ---------------------------------------------------------------------------------------------------

heading "Done in $((SECONDS - began)) s. Three things to try next"
cat <<NEXT
  make test                                  # everything that holds this together
  $bin/farm dev --data ~/pasture-dev         # a network that stays; leave it running
  $bin/farm run examples/fold --out out      # in a second terminal: your first own job
NEXT
