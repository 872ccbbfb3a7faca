PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check bench docs dist pin clean

run: .venv/installed
	@$(BIN)/interject run

test: .venv/installed-dev
	@$(BIN)/python -m pytest -n 4 --dist worksteal

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks

# The documentation as a site in site/; a broken link or anchor is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict --quiet

# The wheel and the source distribution in dist/, each tried in an environment of its own.
dist: .venv/installed-dev
	rm -rf dist
	$(BIN)/hatchling build
	$(BIN)/python -m tests.install.smoke dist

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Interject needs Python 3.11 or newer; choose one with: make run PYTHON=python3.14" >&2; exit 1; }
	@echo "Making the environment in .venv (once; a minute or so) ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made requirements.txt pyproject.toml
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# Pins every dependency anew, with hashes and without index addresses; needs uv.
pin:
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate -q -o requirements.txt
	uv pip compile pyproject.toml --group build --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate -q -c requirements.txt -o requirements-dev.txt
	uv pip compile pyproject.toml --extra postgres --extra s3 --group build --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -c requirements-dev.txt -o requirements-image.txt

clean:
	rm -rf .venv site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
