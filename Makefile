# The commands of this repository. `make` alone lists them.
# CARGO_TARGET_DIR decides where builds go; with CI=true nothing asks and the lock file must fit.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check test-all histories mutants storm soak bench examples fuzz sim sim-audits sim-long sim-scale dist

LOCKED := $(if $(filter true,$(CI)),--locked)
SIM := cargo run $(LOCKED) --release --package pasture-sim --
FOLD := --manifest-path examples/fold/Cargo.toml
# What `make bench` runs; bench/README.md says what each is.
BENCHES := --package pasture-scheduler --bench placement --package pasture-proofs --bench capacity --package pasture-gpu --bench gpu --package pasture-chain --bench join --package pasture-node --bench ledger --bench zone \
	--package pasture-runtime --bench latency --bench volumes --package pasture-farm --bench run --bench joining --bench audits --bench validators --package pasture-herd --bench tasks --package pasture-net --bench net --package pasture-gateway --bench ingress
# Crates whose unit tests need nothing but a processor.
PURE := xtask pasture-types pasture-ledger pasture-scheduler pasture-proofs pasture-light pasture-rt pasture-store pasture-fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a network on this machine, two jobs and a provider that cheats; installs what is missing
	@scripts/demo.sh

test: check ## everything: check, then all tests on a real container engine
	@scripts/test.sh

check: ## formatting, lints, repository checks, unit tests of the pure crates, short fuzzing; no container engine
	cargo fmt --all --check
	cargo fmt $(FOLD) --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) $(FOLD) --all-targets -- -D warnings
	cargo xtask all
	cargo test $(LOCKED) --quiet $(PURE:%=--package %)
	cargo test $(LOCKED) --quiet $(FOLD)

test-all: test demo histories mutants storm soak sim ## test, all random histories, seeded faults, 200 deaths, 200 strokes on validators in an hour, wasm, the simulation of a month, the demo
	@scripts/wasm.sh

histories: ## 12,000 random histories of the ledger; HISTORIES=n for fewer or more
	HISTORIES=$(or $(HISTORIES),12000) cargo test $(LOCKED) --package pasture-ledger --test histories -- --nocapture every_history

mutants: ## seeded faults in the ledger, one at a time: each must be caught by the histories
	@scripts/mutants.sh

storm: ## 200 random deaths of a machine's program and of the engine under it, with jobs, a herd and volumes; STORM=n
	@engine=$$(scripts/engine.sh base); export FARM_TEST_ENGINE=$$engine; \
	STORM=$(or $(STORM),200) cargo test $(LOCKED) --workspace --test network -- --nocapture storms

soak: ## 200 random losses over an hour, twice: of validators while people pay each other, and of gates, relays, machines and cables while jobs answer; SOAK=n MINUTES=n
	@engine=$$(scripts/engine.sh base); export FARM_TEST_ENGINE=$$engine; \
	SOAK=$(or $(SOAK),200) MINUTES=$(or $(MINUTES),60) cargo test $(LOCKED) --workspace --test network -- --nocapture --test-threads 1 soaks

bench: ## measures, in the release profile; PASTURE_TRACES=FOLDER for placement; docs/PERFORMANCE.md says how to read it
	@engine=$$(scripts/engine.sh base); export FARM_TEST_ENGINE=$$engine; \
	cargo bench $(LOCKED) $(BENCHES) $(if $(QUICK),-- --quick)

examples: ## builds the example programs beside their Dockerfiles
	@scripts/examples.sh

sim: ## a month of a thousand nodes, honest and dishonest, on the real ledger; docs/SIMULATION.md says how to read it
	$(SIM) people --nodes $(or $(NODES),1000) --days $(or $(DAYS),30) --seed $(or $(SEED),1)

sim-audits: ## a million days of machines under audits, a month of a thousand cheats, the figures of the specs; fails while a cheat gains
	$(SIM) audits --node-days $(or $(NODEDAYS),1000000) --days $(or $(DAYS),30) --seed $(or $(SEED),1)

sim-scale: ## ten thousand nodes and a hundred thousand leases at once on the real ledger: memory and time
	$(SIM) scale --nodes $(or $(NODES),10000) --leases $(or $(LEASES),100000) --seed $(or $(SEED),1)

sim-long: ## seeds of the ledger on the real engine under faults, 1,000 virtual seconds each: MINUTES=60 SEEDS=10000 JOBS=2; goes on where it ended (DONE)
	$(SIM) network --seeds $(or $(SEEDS),10000) --seconds $(or $(SECONDS),1000) --jobs $(or $(JOBS),2) --minutes $(or $(MINUTES),60) \
		--revision $$(git describe --always --dirty --exclude "*") --done $(or $(DONE),bench/results/sim-long.jsonl)

fuzz: ## hostile bytes for everything that reads bytes; SECONDS=20 for each target
	@scripts/fuzz.sh $(or $(SECONDS),20)

dist: ## a release in dist/: archive, checksum, bill of materials, installer; DIST_IMAGE=yes adds a container image
	@scripts/dist.sh
