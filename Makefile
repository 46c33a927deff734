# Every command installs what it lacks, on a Debian machine with Rust (rustup) and apt.

.DEFAULT_GOAL := help
SHELL := /bin/bash -euo pipefail -c
CARGO ?= cargo
GUESTS := $(CARGO) build --manifest-path guests/Cargo.toml --release --target wasm32-wasip2
# Without the features that other crates of the workspace ask for, as whoever installs them builds them.
SHIPPED := --package ebb-runner --package ebb-evaluator
# What others build on, in the order of their dependencies.
PUBLISHED := $(addprefix --package ,ebb-units ebb-core ebb-service ebb-host ebb-conformance)

# make demo: where samples come from (scrape | prometheus), and how long it runs.
STORE ?= scrape
DEMO_SECONDS ?= 90

# make fuzz: how long each target. make soak: how many hours, a fraction, too.
FUZZ_SECONDS ?= 60
SOAK_HOURS ?= 1

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: tools $(if $(filter prometheus,$(STORE)),prometheus) ## watch instances leak and be restarted (STORE=prometheus, DEMO_SECONDS=90)
	$(GUESTS) --package ebb-guests --package storage --lib --bin leaky --bin steady --bin bursty
	$(CARGO) build --bin ebb-runner --bin ebb-evaluator --bin ebb-demo
	$(CARGO) run --quiet --bin ebb-demo -- --store $(STORE) --seconds $(DEMO_SECONDS)

.PHONY: test
test: guests foreign chromium prometheus faketime dashboard-tools python-host systemd ## run all tests: unit, property, and end-to-end on real programs
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --no-fail-fast
	$(CARGO) test --manifest-path guests/Cargo.toml --lib

.PHONY: check
check: tools ## run the tests that need no other program: unit, property and in-process; a minute or so once built
	$(CARGO) test --workspace --lib --bins --test runner --test loom --test structure

.PHONY: lint
lint: tools lint-tools fuzz-tools guests ## rustfmt, clippy, licences and sources, rustdoc: warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path guests/Cargo.toml --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	for feature in "" http retire opentelemetry; do \
		$(CARGO) clippy --package ebb-host --no-default-features --features "$$feature" -- -D warnings; done
	$(CARGO) clippy --manifest-path guests/Cargo.toml --target wasm32-wasip2 -- -D warnings
	RUSTFLAGS="--cfg fuzzing" $(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	target/tools/bin/cargo-deny --log-level error check licenses bans sources
	target/tools/bin/cargo-deny --log-level error --manifest-path guests/Cargo.toml check licenses bans sources
	target/tools/bin/cargo-deny --log-level error --manifest-path fuzz/Cargo.toml check licenses bans sources
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

.PHONY: lab
lab: tools guests prometheus ## compare all policies, simulated and on real instances; writes lab/report (LAB_LONG=1: at the paper's clock, too, for hours)
	$(CARGO) build --release $(SHIPPED) --package ebb-lab
	target/release/ebb-lab simulate
	target/release/ebb-lab live
	$(if $(LAB_LONG),target/release/ebb-lab live --clock 10 --protocol mixed --out target/lab/live-long.json)
	target/release/ebb-lab report
	target/release/ebb-lab costs
	target/release/ebb-lab kinds
	target/release/ebb-lab exhaustion
	target/release/ebb-lab versions

.PHONY: bench
bench: tools guests prometheus bench-tools ## measure speed and memory; tables, and target/bench/NAME.json
	$(CARGO) build --release $(SHIPPED) --package ebb-bench --package ebb-lab --package example-serve
	target/release/ebb-bench restart
	target/release/ebb-bench http
	target/release/ebb-bench fairness
	target/release/ebb-bench scrape
	target/release/ebb-bench density
	target/release/ebb-bench evaluator
	target/release/ebb-bench host
	target/release/ebb-bench growth
	target/release/ebb-lab speed

.PHONY: fuzz
fuzz: tools fuzz-tools ## mutate what everything that parses bytes from outside is given (FUZZ_SECONDS=60 each)
	scripts/fuzz.sh $(FUZZ_SECONDS)

.PHONY: soak
soak: tools guests prometheus ## run a fleet under load and watch for growth; writes target/soak (SOAK_HOURS=1)
	$(CARGO) build --release $(SHIPPED) --package ebb-soak
	target/release/ebb-soak --hours $(SOAK_HOURS)

.PHONY: compose-check
compose-check: ## run docker-compose.yml with four runners, check what it does, take it down (root; a quarter of an hour at first)
	scripts/compose-check.sh

.PHONY: package
package: tools ## pack the crates that others build on, as they would be published, and build each from that
	$(CARGO) package $(PUBLISHED)

.PHONY: schemas
schemas: tools ## write config/*.schema.json anew, after a change of config keys
	$(CARGO) build --bin ebb-runner --bin ebb-evaluator
	target/debug/ebb-runner schema >config/runner.schema.json
	target/debug/ebb-evaluator schema >config/evaluator.schema.json

# --- what the commands above need ---

.PHONY: guests
guests: tools
	$(GUESTS)

.PHONY: foreign
foreign: tools
	scripts/build-foreign-apps.sh

.PHONY: chromium
chromium:
	scripts/install-chromium.sh

.PHONY: prometheus
prometheus:
	scripts/install-prometheus.sh

.PHONY: faketime
faketime:
	scripts/install-faketime.sh

.PHONY: dashboard-tools
dashboard-tools:
	scripts/install-dashboard-tools.sh

.PHONY: python-host
python-host:
	scripts/install-python-host.sh

.PHONY: systemd
systemd:
	scripts/install-systemd.sh

.PHONY: bench-tools
bench-tools: tools
	scripts/install-wasmtime.sh
	scripts/install-wrk.sh

.PHONY: tools
tools:
	scripts/install-tools.sh

.PHONY: lint-tools
lint-tools: tools
	scripts/install-lint-tools.sh

.PHONY: fuzz-tools
fuzz-tools: tools
	scripts/install-fuzz-tools.sh
