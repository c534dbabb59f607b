# `make run` runs the server on a real use case; `make test` passes the tests. Both install what they need.

SHELL := /bin/bash
CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/release/ferrocast
DEBUG_BIN = $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/ferrocast
# Arguments for the server, as `make run ARGS="--grpc-addr 127.0.0.1:6000"`.
ARGS ?=
# What the server is built with: `make build FEATURES=lightgbm` serves LightGBM's own text models, and builds some minutes more.
FEATURES ?=
# Tests and lints have everything.
ALL_FEATURES = --features ferrocast/lightgbm
# What LightGBM's library is built with.
WITH_CMAKE = cmake="$$(scripts/lightgbm.sh)" && CMAKE="$$cmake"
MODEL ?= credit_risk
# The tests of training/ ask for every dependency group; registering a model for MLflow's client alone.
TEST_GROUPS = --group exports --group mlflow --group mlflow-server
UV = scripts/uv.sh
# The load tests have the libraries of training/, which also makes their model.
LOADTEST = uv="$$($(UV))" && cd training && PYTHONPATH=. exec "$$uv" run --locked python ../loadtest

export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE = copy
# ONNX Runtime writes to its maker otherwise.
export ORT_DISABLE_TELEMETRY = 1

LOADTESTS = loadtest loadtest-quick loadtest-marks loadtest-compare loadtest-shadows loadtest-stress loadtest-soak loadtest-tools loadtest-features loadtest-ledger loadtest-materialize
.PHONY: run build build-guided historical runtime tools test test-rust test-python test-loadgen lint fmt smoke bench instructions $(LOADTESTS) exports train mlflow check clean help

help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

run: build ## Serves models/ on gRPC 50051 and REST 8080, from an embedded store.
	@$(BIN) apply
	@$(BIN) materialize
	@exec $(BIN) serve $(ARGS)

build: runtime ## Builds the server; with LightGBM: make build FEATURES=lightgbm.
	@$(if $(FEATURES),$(WITH_CMAKE)) $(CARGO) build --release --locked -p ferrocast -p ferrocast-gateway \
	  $(if $(FEATURES),--features ferrocast/$(FEATURES))

build-guided: runtime ## Builds the server by a profile of itself under load, target/guided/ferrocast; may take an hour.
	@scripts/tools.sh loadtest
	@scripts/redis.sh
	@$(if $(FEATURES),$(WITH_CMAKE)) CARGO=$(CARGO) FEATURES=$(FEATURES) scripts/guided.sh

historical: ## Builds ferrocast-historical, which makes training sets; takes some minutes more.
	@$(CARGO) build --profile historical --locked -p ferrocast-historical
	@cp $(or $(CARGO_TARGET_DIR),target)/historical/ferrocast-historical $(dir $(BIN))

runtime: ## Brings ONNX Runtime.
	@scripts/onnxruntime.sh

tools: runtime ## Brings ONNX Runtime, grpcurl and ghz into .tools/.
	@scripts/tools.sh

test: test-rust test-python test-loadgen ## Runs all tests; starts and stops the servers that they need.

test-rust: runtime
	@scripts/postgres.sh
	@scripts/redis.sh
	@scripts/services.sh
	$(WITH_CMAKE) $(CARGO) test --workspace --locked $(ALL_FEATURES)

test-python: runtime
	$(WITH_CMAKE) $(CARGO) build --workspace --locked $(ALL_FEATURES)
	cd training && FERROCAST_BIN="$(DEBUG_BIN)" "$$(../$(UV))" run --locked $(TEST_GROUPS) pytest -q

test-loadgen:
	@go="$$(scripts/go.sh)" && cd loadtest/loadgen && test -z "$$("$$(dirname "$$go")/gofmt" -l .)" && "$$go" vet ./... && "$$go" test ./...

lint: ## Formatting, clippy, ruff, mypy: all without a warning.
	$(CARGO) fmt --all --check
	$(WITH_CMAKE) $(CARGO) clippy --workspace --all-targets --locked $(ALL_FEATURES) -- -D warnings
	$(CARGO) clippy --locked -- -D warnings
	cd training && uv="$$(../$(UV))" && "$$uv" run --locked ruff check . ../loadtest ../benches --config pyproject.toml \
	  && "$$uv" run --locked ruff format --check . ../loadtest ../benches --config pyproject.toml \
	  && "$$uv" run --locked --group exports mypy && "$$uv" run --locked mypy --strict ../loadtest ../benches

fmt: ## Formats everything.
	$(CARGO) fmt --all
	cd training && "$$(../$(UV))" run --locked ruff format . ../loadtest ../benches --config pyproject.toml

smoke: build tools ## Runs the server as a user would, with grpcurl, ghz and curl.
	scripts/smoke.sh

bench: runtime ## Measures single parts, side by side: make bench ARGS=trees.
	$(CARGO) bench --locked -p ferrocast --bench '*' -- $(ARGS)

instructions: runtime ## Counts the instructions of single parts by valgrind: make instructions ARGS=trees.
	@scripts/valgrind.sh
	@python3 benches/instructions.py $(ARGS)

loadtest: loadtest-tools ## Measures every mark against the peers: target/loadtest/report/report.md.
	@$(LOADTEST)/everything.py $(ARGS)

loadtest-quick: loadtest-tools ## The same with few users and single rounds, to try it.
	@$(LOADTEST)/everything.py --quick $(ARGS)

loadtest-marks: loadtest-tools ## The marks of the hot path alone, in two minutes.
	@$(LOADTEST)/marks.py $(ARGS)

loadtest-shadows: loadtest-tools ## Predictions with a version scoring beside the answers, and without.
	@$(LOADTEST)/shadows.py $(ARGS)

loadtest-compare: loadtest-tools ## The server against itself: make loadtest-compare ARGS="--with server.threads=1".
	@$(LOADTEST)/compare.py $(ARGS)

loadtest-stress: loadtest-tools ## Doubles the load until it breaks, and says what broke.
	@$(LOADTEST)/stress.py $(ARGS)

loadtest-soak: loadtest-tools ## 20 minutes of predictions, writes and swaps: make loadtest-soak ARGS="--minutes 2".
	@$(LOADTEST)/soak.py $(ARGS)

loadtest-tools: build
	@scripts/tools.sh loadtest
	@scripts/redis.sh

loadtest-features: build tools ## Measures GetOnlineFeatures: make loadtest-features ARGS="--store sqlite".
	@python3 loadtest/features.py $(ARGS)

loadtest-ledger: build tools ## Measures predictions with and without the ledger: make loadtest-ledger ARGS="--store sqlite".
	@python3 loadtest/ledger.py $(ARGS)

loadtest-materialize: build ## Measures loads into PostgreSQL, against COPY by psql.
	@cd training && "$$(../$(UV))" run --locked python ../loadtest/materialize.py $(ARGS)

exports: ## Trains and exports the small models of tests/data again.
	cd training && "$$(../$(UV))" run --locked --group exports python -m exports

train: $(if $(FERROCAST_BIN),,build historical) ## Takes a use case from raw data to models/: make train MODEL=credit_risk.
	cd training && "$$(../$(UV))" run --locked $(if $(MLFLOW_TRACKING_URI),--group mlflow) \
	  ferrocast-train run $(MODEL) $(ARGS)

mlflow: ## Runs a tracking server for development, on SQLite: http://127.0.0.1:5000.
	@mkdir -p data/mlflow
	@cd training && MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  "$$(../$(UV))" run --locked --group mlflow-server mlflow server --workers 1 \
	  --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///../data/mlflow/mlflow.db \
	  --artifacts-destination ../data/mlflow/artifacts $(ARGS)

check: build ## Checks configuration, definitions and models, and starts nothing.
	@$(BIN) check

clean: ## Removes what was built and brought, and the embedded store.
	$(CARGO) clean
	rm -rf .tools data
