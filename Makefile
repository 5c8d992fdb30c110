# The commands of this repository. `make` alone lists them.
# CARGO_TARGET_DIR decides where builds go; with CI=true nothing asks and the lock file must fit.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check test-all bench examples fuzz

LOCKED := $(if $(filter true,$(CI)),--locked)
FOLD := --manifest-path examples/fold/Cargo.toml
# Crates whose unit tests need nothing but a processor.
PURE := xtask pasture-types pasture-ledger pasture-scheduler pasture-proofs pasture-light pasture-rt pasture-store

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a network on this machine, two jobs and a provider that cheats; installs what is missing
	@scripts/demo.sh

test: check ## everything: check, then all tests on a real container engine
	@scripts/test.sh

check: ## formatting, lints, repository checks and unit tests of the pure crates; no container engine
	cargo fmt --all --check
	cargo fmt $(FOLD) --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) $(FOLD) --all-targets -- -D warnings
	cargo xtask all
	cargo test $(LOCKED) --quiet $(PURE:%=--package %)
	cargo test $(LOCKED) --quiet $(FOLD)

test-all: test demo ## test, the kill test of a whole network, the light verifier as wasm, and the demo
	cargo test $(LOCKED) --workspace kills::
	@scripts/wasm.sh

bench: ## measures, in the release profile; docs/PERFORMANCE.md says how to read it
	@engine=$$(scripts/engine.sh base); export FARM_TEST_ENGINE=$$engine; \
	cargo bench $(LOCKED) --package pasture-node --package pasture-runtime --package pasture-farm --package pasture-herd --bench ledger --bench latency --bench run --bench tasks $(if $(QUICK),-- --quick)

examples: ## builds the example programs beside their Dockerfiles
	@scripts/examples.sh

fuzz: ## hostile bytes for everything that reads bytes; SECONDS=20 for each target
	@scripts/fuzz.sh $(or $(SECONDS),20)
