# Orchestrates the three projects; each works alone too (`make -C optimus setup`).
PROJECTS := $(foreach p,optimus fq-gan prevalent,$(if $(wildcard $(p)/Makefile),$(p)))
PYTHON ?= python3
VENV ?= $(CURDIR)/.venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
RUNS ?= $(CURDIR)/runs
export VENV RUNS

.PHONY: help setup demo test lint types twins bench gpu gpu-wheels report clean $(PROJECTS)

help:
	@echo "make setup   one environment for all three projects in .venv (VENV=... for another place)"
	@echo "make demo    train, score and sample all three on data made by the code itself"
	@echo "make test    the tests of all three"
	@echo "make lint    ruff and mypy;  make twins   compare the files the projects share"
	@echo "make bench   every benchmark, into docs/benchmarks.md"
	@echo "make gpu     check numbers and speed on the GPU of this machine, 7 minutes at most (docs/hardware.md)"
	@echo "make gpu-wheels   gather what a machine without network needs for it"
	@echo "make report  published figures beside ours, into docs/results.md and a page, docs/results.html"
	@echo "make clean   remove caches and runs (not .venv)"

setup: $(STAMP)

$(STAMP): $(foreach p,$(PROJECTS),$(p)/requirements.txt $(p)/pyproject.toml)
	@for project in optimus fq-gan prevalent; do \
	  test -f $$project/Makefile || echo "skipping $$project: it is not here yet"; done
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@for project in $(PROJECTS); do \
	  $(MAKE) --no-print-directory -C $$project setup VENV=$(VENV) || exit 1; done
	@touch $@

demo test: setup
	@for project in $(PROJECTS); do echo "== $$project: $@"; \
	  $(MAKE) --no-print-directory -C $$project $@ VENV=$(VENV) || exit 1; done

lint: setup
	@for project in $(PROJECTS); do echo "== $$project: $@"; \
	  $(MAKE) --no-print-directory -C $$project $@ VENV=$(VENV) || exit 1; done

bench: setup
	@for project in $(PROJECTS); do echo "== $$project: $@"; \
	  $(MAKE) --no-print-directory -C $$project $@ VENV=$(VENV) || exit 1; done
	$(BIN)/python tools/collect.py benchmarks

# One process a project, one after the other: all of them are made before the status is told.
gpu: $(if $(NO_SETUP),,setup)
	@status=0; for project in $(PROJECTS); do echo "== $$project: $@"; \
	  $(MAKE) --no-print-directory -C $$project $@ VENV=$(VENV) || status=1; done; exit $$status

gpu-wheels: setup
	@for project in $(PROJECTS); do \
	  $(MAKE) --no-print-directory -C $$project $@ VENV=$(VENV) || exit 1; done

report: setup
	$(BIN)/python tools/collect.py results --runs $(RUNS)

twins:
	$(PYTHON) tools/check_twins.py

clean:
	rm -rf runs $(foreach p,$(PROJECTS),$(p)/runs $(p)/.pytest_cache $(p)/.mypy_cache $(p)/.ruff_cache)
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
