# Bauta's commands. `make` prepares a virtual environment in .venv; `make help` lists the rest.

BIN := .venv/bin
READY := .venv/.ready
BENCH_READY := .venv/.ready-bench
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
ONE_A_CORE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4
PYTHON ?= # the interpreter to build .venv with; default: the first of python3.11 … python3
ARGS ?= # more arguments for pytest, `bauta serve` or the benchmarks

.DEFAULT_GOAL := setup
.PHONY: setup help demo run test test-fast lint format bench reproduce clean

setup: $(READY) ## create .venv and install everything, at pinned versions

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target what; do \
		printf '  %-16s %s\n' "$$target" "$$what"; done
	@echo "  ARGS='-k races' make test: arguments are passed on; PYTHON=… chooses the interpreter"

demo: $(READY) ## classify photos through HTTP and say where the pictures are
	@$(BIN)/python -m services.demo $(ARGS)

run: $(READY) ## serve at http://127.0.0.1:8000 until Ctrl-C
	@$(BIN)/bauta serve $(ARGS)

test: $(READY) ## run all tests (starts private Redis, Postgres and S3 servers)
ifeq ($(strip $(ARGS)),)
	@# One process a core, of one thread each. Those with servers mostly wait: two at a time, each
	@# process with servers of its own, and a file's tests in one, which share what the file starts.
	@failed=0; \
	$(ONE_A_CORE) -m 'not integration' --dist worksteal --durations=15 || failed=1; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m integration -n 2 --dist loadfile --durations=15 || failed=1; \
	exit $$failed
else
	@$(BIN)/python -m pytest $(ARGS)
endif

test-fast: $(READY) ## run the tests that need neither servers nor patience
	@$(ONE_A_CORE) -m 'not slow and not integration' --dist worksteal $(ARGS)

lint: $(READY) ## check style, types and the walls between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## format the code and repair what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(BENCH_READY) ## measure speed against peers, in one run, and print ratios
	@$(BIN)/python -m benchmarks $(ARGS)

reproduce: $(READY) ## run the papers' tables (hours; resumable) and write docs/results/pixels.md
	@$(BIN)/python -m research.papers.pixels $(ARGS)

clean: ## delete caches and build leftovers; .venv and data stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find services shared research tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "creating .venv with $$python"; exec "$$python" -m venv .venv; \
		fi; \
	done; \
	echo "Bauta needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)" >&2; exit 1

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Bauta into .venv (several GB with PyTorch, some minutes the first time)"
	@$(INSTALL) --editable '.[api,worker,dev]'
	@touch $@

$(BENCH_READY): $(READY)
	@$(INSTALL) --editable '.[api,worker,dev,bench]'
	@$(INSTALL) --no-deps torchattacks
	@touch $@
