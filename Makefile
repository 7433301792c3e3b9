# Needs Python 3.11 or newer with venv, make, git, and nothing else. Everything is made below .venv/.
#
#   make PYTHON=python3.12 demo      with another Python (Airflow 2.11 runs on 3.11 and 3.12)
#   UV_DEFAULT_INDEX=... make demo   with a package mirror; pip's own index setting is taken over by itself
#   UV_CACHE_DIR=... make demo       with a package cache that outlives this folder

PYTHON ?= python3
# Processes of 'make test'; each imports Airflow, so many do not pay.
WORKERS ?= 2
VENV := .venv

# The package cache is inside too: what is not written elsewhere need not be cleaned up there.
UV_CACHE_DIR ?= $(CURDIR)/$(VENV)/cache
export UV_CACHE_DIR
# The Python that the caller named, never one that uv fetches.
export UV_PYTHON_DOWNLOADS := never

# A mirror's own authority is in the system's store, if there is one; else uv's own list has to do.
STORES := /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem
UV_SYSTEM_CERTS ?= $(if $(wildcard $(STORES)),true,false)
export UV_SYSTEM_CERTS

# pip knows the mirrors of this machine, uv does not ask it. Expanded only when an environment is made.
INDEX = $(or $(UV_DEFAULT_INDEX),$(PIP_INDEX_URL),$(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null))
UV = $(if $(INDEX),UV_DEFAULT_INDEX='$(INDEX)') $(VENV)/uv/bin/uv

AIRFLOW3 := $(VENV)/airflow3/bin/python
AIRFLOW2 := $(VENV)/airflow2/bin/python
STUBS := $(VENV)/stubs/bin/python
TOOLS := $(VENV)/tools/bin

# The oldest and the newest protobuf that users may have, and the majors between.
PROTOBUFS := 4.25.9 5.29.6 6.33.6 7.36.2

# One thing at a time: two cores, and output that can be read.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-standalone test-stubs test-protobuf test-airflow2 \
	check lint types hygiene protos protos-check bench dist pins format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/airflow3.stamp  ## one call, up and analysed: emulator and a real Airflow, nothing left behind
	$(AIRFLOW3) example_dags/demo.py

test: test-unit test-standalone test-stubs test-protobuf  ## everything, on Airflow 3.3

test-unit: $(VENV)/airflow3.stamp  ## the tests proper, with branch coverage of the package
	$(AIRFLOW3) -m pytest tests -n $(WORKERS) --dist loadfile --cov

test-standalone: $(VENV)/airflow3.stamp  ## a whole 'airflow standalone': scheduler, triggerer, database
	$(AIRFLOW3) -m pytest tests/standalone

test-stubs: $(VENV)/stubs.stamp  ## beside the service's official stubs, without Airflow
	$(STUBS) -m pytest tests/stubs

test-protobuf: $(VENV)/uv.stamp  ## the descriptors under each major of protobuf
	@set -e; for version in $(PROTOBUFS); do \
		PYTHONPATH=. $(UV) run --quiet --no-project --isolated --python $(VENV)/uv/bin/python \
			--with protobuf==$$version python tests/protobuf_matrix.py $$version; \
	done

test-airflow2: $(VENV)/airflow2.stamp  ## the tests proper and the standalone one, on Airflow 2.11
	$(AIRFLOW2) -m pytest tests -n $(WORKERS) --dist loadfile
	$(AIRFLOW2) -m pytest tests/standalone

check: lint types protos-check hygiene  ## lint, format, types, generated files, stray addresses

lint: $(VENV)/tools.stamp
	$(TOOLS)/ruff check .
	$(TOOLS)/ruff format --check .

# mypy sees Airflow and the typing packages where they are installed.
types: $(VENV)/tools.stamp $(VENV)/airflow3.stamp
	$(TOOLS)/mypy --python-executable $(AIRFLOW3)

# Written so that this file does not find itself.
STRAY := p[y]pi\.(org|python)|p[y]thonhosted|--(extra-)?[i]ndex-url|(^|[^A-Za-z0-9_.])/(home|Users|root)/[A-Za-z0-9_.]
hygiene:
	@echo "no registry's address and no home folder in any file"
	@! git grep --untracked -nIE '$(STRAY)' -- .

protos: $(VENV)/protos.stamp  ## compile protos/ into the package
	$(VENV)/protos/bin/python protos/build.py

protos-check: $(VENV)/protos.stamp
	$(VENV)/protos/bin/python protos/build.py --check

format: $(VENV)/tools.stamp  ## apply what 'make check' asks of layout and imports
	$(TOOLS)/ruff check --fix-only --quiet .
	$(TOOLS)/ruff format .

# It measures against the official stubs too, which no environment with Airflow holds.
bench: $(VENV)/airflow3.stamp $(VENV)/stubs.stamp  ## what the README claims, measured in one run
	STUBS_PYTHON=$(STUBS) $(AIRFLOW3) benchmarks/run.py

dist: $(VENV)/uv.stamp  ## wheel and sdist in dist/
	rm -rf dist
	@$(UV) build --quiet --python $(VENV)/uv/bin/python --build-constraints constraints/uv.txt --out-dir dist
	@$(PYTHON) -c 'import glob, sys, zipfile; \
		names = zipfile.ZipFile(glob.glob("dist/*.whl")[0]).namelist(); \
		stray = [n for n in names if not n.startswith("airflow_provider_speechsense")]; \
		sys.exit(f"the wheel holds more than the package: {stray}" if stray else print(*names, sep="\n"))'

pins: $(VENV)/uv.stamp  ## resolve pyproject's groups into constraints/ anew (newer: make pins UPGRADE=--upgrade)
	@set -e; for name in airflow3 airflow2 stubs tools protos uv; do \
		echo "constraints/$$name.txt"; \
		$(UV) pip compile --quiet $(UPGRADE) --group pyproject.toml:$$name --universal --python-version 3.11 \
			--no-header --no-annotate --no-emit-index-url --output-file constraints/$$name.txt; \
	done

clean:  ## remove everything that make made
	rm -rf $(VENV) dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

# ---- environments: .venv/NAME holds exactly constraints/NAME.txt; the stamp makes a second run instant

$(VENV)/uv.stamp: constraints/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@echo "making $(VENV)/uv"
	@$(PYTHON) -m venv --clear $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/uv.txt uv
	@touch $@

# Compiled at once, on all cores: else each of the many processes that import Airflow pays seconds for it,
# for ever where PYTHONDONTWRITEBYTECODE is set.
define environment
	@echo "making $(VENV)/$*"
	@$(UV) venv --quiet --clear --python $(VENV)/uv/bin/python $(VENV)/$*
	@$(UV) pip sync --quiet --compile-bytecode --python $(VENV)/$* constraints/$*.txt
endef

# These also hold the project itself, editable, so that its entry points exist.
$(VENV)/airflow3.stamp $(VENV)/airflow2.stamp $(VENV)/stubs.stamp: $(VENV)/%.stamp: constraints/%.txt pyproject.toml $(VENV)/uv.stamp
	$(environment)
	@$(UV) pip install --quiet --python $(VENV)/$* --build-constraints constraints/uv.txt --no-deps --editable .
	@touch $@

$(VENV)/tools.stamp $(VENV)/protos.stamp: $(VENV)/%.stamp: constraints/%.txt $(VENV)/uv.stamp
	$(environment)
	@touch $@
