# FetalMLOps. Needs Python 3.11 to 3.13, make and a network; the rest goes to .venv and the user's cache.
#
#   make setup       install into .venv and download what is needed, once
#   make demo        start everything, send a simulated study and show its results; leaves the system up
#   make up, down    start and stop the system
#   make train-demo  phantoms, training, evaluation, a bundle, and its serving; installs torch
#   make lint test   what every change has to pass
#   make test-slow   faults, load and real peers; installs torch
#   make fuzz        100,000 damaged instances for de-identification; make fuzz COUNT=1000 SEED=7
#   make bench       figures, each against a peer measured in the same run
#   make schemas protos lock   write what is generated and committed

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamps
UV     := $(BIN)/uv
# Compiled at once: six services that start together would each compile the same modules.
INSTALL = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python

# A mirror that pip is told to use serves uv too.
MIRROR := $(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null)
ifneq ($(strip $(MIRROR)),)
export UV_DEFAULT_INDEX ?= $(MIRROR)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo train-demo test test-slow fuzz lint format up down bench schemas protos lock clean

help:
	@awk '!/^#/ { exit } { sub(/^# ?/, ""); print }' Makefile

setup: $(STAMP)/setup

DEMO = 12
demo: setup
	$(BIN)/fetalmlops up
	@echo "Sending a simulated study of $(DEMO) instances by C-STORE; its results as they come:"
	@sent=$$(mktemp) && trap 'rm -f $$sent' EXIT && now=$$(date -u +%Y-%m-%dT%H:%M:%S) && \
		{ $(BIN)/fetalmlops simulate --instances $(DEMO) --seed $$(date +%s) >$$sent 2>&1 & } && \
		$(BIN)/fetalmlops results --since $$now --expect $(DEMO) --timeout 120; shown=$$?; \
		wait $$! || shown=1; test $$shown = 0 || cat $$sent; exit $$shown
	@echo; echo "The system stays up. Look around: $(BIN)/fetalmlops status    Stop it: make down"

train-demo: $(STAMP)/train
	$(BIN)/python -m fetalmlops.cli.train_demo

test: $(STAMP)/dev $(STAMP)/setup
	$(BIN)/pytest -q -m "not slow and not torch" -n 2 --dist loadfile

test-slow: $(STAMP)/train $(STAMP)/setup
	$(BIN)/pytest -q -m "slow or torch" -rA --no-header

COUNT = 100000
fuzz: $(STAMP)/dev
	cd tests && ../$(BIN)/python -m support.fuzz --count $(COUNT) $(if $(SEED),--seed $(SEED))

lint: $(STAMP)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/baseline.binpb
	$(BIN)/fetalmlops schemas --check

format: $(STAMP)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

up: setup
	$(BIN)/fetalmlops up

down: $(STAMP)/base
	$(BIN)/fetalmlops down

bench: $(STAMP)/dev $(STAMP)/setup $(STAMP)/peers
	@for script in $(sort $(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; \
		PYTHONPATH=tests $(BIN)/python $$script || exit 1; done

schemas: $(STAMP)/base
	$(BIN)/fetalmlops schemas

protos: $(STAMP)/dev
	cd protos && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=../services --pyi_out=../services \
		--grpc_python_out=../services $$(find . -name '*.proto' | sed 's|^\./||')

# Versions stay as they are unless pyproject.toml asks for others, or: make lock UPGRADE=--upgrade
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url $(UPGRADE)
lock: $(STAMP)/venv
	$(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(LOCK) pyproject.toml -o requirements/base.txt
	$(LOCK) pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
	$(LOCK) requirements/peers.in -o requirements/peers.txt
	$(LOCK) pyproject.toml --extra dev --extra train -c requirements/dev.txt -o requirements/train.txt

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Each stamp says that its step is done; it is repeated when what it was made from has changed.

$(STAMP)/venv: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Expected Python 3.11 to 3.13, got $$($(PYTHON) --version 2>&1); name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/base: $(STAMP)/venv requirements/base.txt pyproject.toml
	$(INSTALL) --require-hashes -r requirements/base.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMP)/dev: $(STAMP)/base requirements/dev.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# What is measured against has dependencies of its own, and shares none with the system.
$(STAMP)/peers: $(STAMP)/venv requirements/peers.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(UV) pip install --quiet --compile-bytecode --python $(VENV)/peers/bin/python --require-hashes -r requirements/peers.txt
	@touch $@

$(STAMP)/train: $(STAMP)/dev requirements/train.txt
	$(INSTALL) --require-hashes -r requirements/train.txt
	@touch $@

$(STAMP)/setup: $(STAMP)/base services/fetalmlops/platform/embedded/kafka-4.3.1.sha256
	$(BIN)/fetalmlops setup
	@touch $@
