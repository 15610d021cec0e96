# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin
GENERATORS := clinical_table module_table case_table suites readme_output site_mapping_output
DAY := 2025-11-15

.PHONY: demo test check lint unit server wheel generate hapi night clean

demo: .venv/ready            ## the sample patients: the list of a morning, and the Bundles that would be written
	$(BIN)/fhir-screen demo
	$(BIN)/fhir-screen run sample_bundles --write-to out/demo --as-of $(DAY)
	@echo "The transaction Bundles are in out/demo, one a patient."

test: lint unit server wheel ## everything that CI runs, the real HAPI server included

check: lint unit             ## the quick round, without the real server

lint: .venv/ready
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/ready
	$(BIN)/python -m pytest -m "not server" -n 2

server: .venv/ready
	$(BIN)/python -m pytest -m server -rs

wheel: .venv/ready
	$(BIN)/python tests/wheel.py

generate: .venv/ready        ## all tables and outputs in README.md and docs/ that the programme itself knows
	for one in $(GENERATORS); do $(BIN)/python tests/$$one.py || exit 1; done

hapi: .venv/ready            ## a real HAPI FHIR server on loopback, with the sample patients loaded
	$(BIN)/python tests/hapi/server.py --load sample_bundles

night: .venv/ready           ## the nightly job against a real HAPI server, and what it wrote
	$(BIN)/python tests/hapi/night.py

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv out dist build tests/hapi/target
