# Every target sets up what it needs; a second run installs nothing. Needed on the machine: Python 3.11 or newer, git, make.
# With PYTHON_VERSION=3.11 a target runs on that Python, in an environment of its own beside .venv.

PYTHON_VERSION ?=
PYTHON := $(if $(PYTHON_VERSION),.run/venv-$(PYTHON_VERSION),.venv)/bin/python
PORT ?= 7071
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve host test bench chaos package lock audit lint format clean python azurite checkov

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | awk -F'|' '{ printf "make %-7s %s\n", $$1, $$2 }'

demo: azurite ## the whole story on this machine: sample segments, a destination, an export, its books
	@$(PYTHON) -m dev.demo $(ARGS)

serve: azurite ## the same stack, left running, with its addresses
	@$(PYTHON) -m dev.serve $(ARGS)

host: python ## the local Functions host alone, with the environment as given (PORT=7071)
	@exec $(PYTHON) -m dev.host --port $(PORT) $(ARGS)

test: azurite checkov lint ## lint and all tests: what CI runs
	@$(PYTHON) -m pytest tests -n 3 --dist loadfile $(ARGS)

bench: azurite ## the benchmark: a million profiles, figures with their limits
	@$(PYTHON) -m dev.bench $(ARGS)

chaos: azurite ## the fault campaign: whole exports while everything around them fails (ARGS="--seed 7")
	@$(PYTHON) -m dev.chaos $(ARGS)

package: python ## the zip that is deployed, with its dependencies, and what is in it
	@$(PYTHON) -m dev.packaging.build $(ARGS)

lock: python ## requirements.lock and docs/dependencies.md anew, after a change of requirements.txt
	@$(PYTHON) -m dev.packaging.lock $(ARGS)

audit: python ## published weaknesses of what is deployed, as far as the package index tells them
	@$(PYTHON) -m dev.packaging.audit $(ARGS)

lint: python ## ruff and mypy
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --check --quiet . || { echo "run 'make format'" >&2; exit 1; }
	@$(PYTHON) -m mypy --no-error-summary

format: python ## put the code into its form
	@$(PYTHON) -m ruff check --quiet --fix .
	@$(PYTHON) -m ruff format --quiet .

clean: ## remove everything that was installed or made
	rm -rf .venv dev/node_modules .run .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@PYTHON_VERSION=$(PYTHON_VERSION) dev/setup.sh python

azurite:
	@PYTHON_VERSION=$(PYTHON_VERSION) dev/setup.sh azurite

checkov:
	@PYTHON_VERSION=$(PYTHON_VERSION) dev/setup.sh checkov
