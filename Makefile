# Every target sets up what it needs. Python 3.11 or newer and make are enough; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG ?= deploy/demo/registry-pipelines.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo cluster demo-cloud demo-stream demo-airgap demo-survive dev serve compiled test test-long lint lint-types lint-style lint-imports lint-twins lint-pages format bench docs image clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(READY) ## Create the virtual environment and install the project with pinned versions

# uv from the environment's own pip installs in 5 s what pip alone takes 40 s for; pip serves where uv has no wheel.
# Byte-compiling pays at every start: without it Dagster is compiled again wherever PYTHONDONTWRITEBYTECODE is set.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv 2>/dev/null; then \
		$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[admission,aws,cluster,containerd,dagster,dagster-clouds,dev,docker,google,inventory,kms,node,otel,packages,postgres,stores]'; \
	else \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[admission,aws,cluster,containerd,dagster,dagster-clouds,dev,docker,google,inventory,kms,node,otel,packages,postgres,stores]'; \
	fi
	@touch $(READY)

demo: $(READY) ## Build, scan, sign, promote, replicate and mirror two images on embedded registries
	@$(BIN)/registry-pipelines demo --config $(CONFIG)

cluster: $(READY) ## The demo on three workers with Postgres, Redis and Dagster's queue, as on machines of their own; then the UI
	@$(BIN)/python deploy/cluster/run.py $(ARGS)

demo-cloud: $(READY) ## The chain over ECR and Artifact Registry, on doubles of both clouds, then the UI
	@$(BIN)/python deploy/demo-cloud/run.py $(ARGS)

demo-stream: $(READY) ## Start the demo's image lazily beside whole, on a link of its own; as root
	@deploy/demo-stream

demo-airgap: $(READY) ## Images across an air gap as files: bundles, receipts, a build and a start behind it, an undo; as root all of it
	@$(BIN)/python deploy/demo-airgap/run.py $(ARGS)

demo-survive: $(READY) ## A registry is backed up, destroyed and restored; every signature is verified, and RTO and RPO are said
	@deploy/demo-survive

dev: $(READY) ## Serve the Dagster UI on the demo's state, with its registries and the daemon
	@$(BIN)/registry-pipelines dev --config $(CONFIG)

serve: $(READY) ## Serve the demo's five registries, for skopeo, docker and cosign
	@$(BIN)/registry-pipelines serve --config $(CONFIG)

# Hundreds of processes start from here: where PYTHONDONTWRITEBYTECODE is set, each would compile all it imports.
compiled: $(READY)
	@$(BIN)/python -m compileall -q -j 0 -x '/test_[^/]*$$' registry_pipelines dagster_project tests

# Slow files first, so that no processor waits at the end for one that began last (tests/slowest_files.py).
test: compiled ## Run the tests
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

test-long: compiled ## Run what takes an hour: many kills, pairs of registry families, the tests under load
	@$(BIN)/python -m pytest -n auto --dist loadfile -m long $(PYTEST_OPTIONS)
	@$(BIN)/python -m tests.under_load

# Looking for twins takes half a minute of one processor, as do the types: beside each other.
lint: $(READY) ## Check format, style, types, the arrows between rooms, and that nothing stands there twice, and the pages that are written from the code
	@$(MAKE) --no-print-directory -j2 -Otarget lint-types lint-style lint-imports lint-twins lint-pages

lint-types:
	$(BIN)/mypy

lint-style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

lint-imports:
	$(BIN)/lint-imports

lint-twins:
	$(BIN)/python -m tests.twins registry_pipelines dagster_project

lint-pages:
	$(BIN)/python -m tests.pages --check

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Those that want something (a folder, wheels, root) say so in their first lines, and are run by hand.
BENCH_PARTS := benchmarks/measure.py benchmarks/gpu_start.py benchmarks/next_release.py benchmarks/start_images.py $(wildcard benchmarks/node_*.py)
BENCH_BY_HAND = $(shell grep -lE 'required=True|nargs="\+"' benchmarks/*.py)

bench: $(READY) ## Run the benchmarks against the peers and write docs/benchmarks
	@for script in $(filter-out $(BENCH_PARTS) $(BENCH_BY_HAND),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done
	@echo "not run, for they want something that their first lines name: $(BENCH_BY_HAND)"

docs: $(READY) ## Write the generated pages, then build the documentation with its search into site/
	@$(BIN)/python -m tests.pages
	@$(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html; with the search: $(PYTHON) -m http.server -b 127.0.0.1 -d site 8000, then http://127.0.0.1:8000"

image: $(READY) ## Build the image of this product with this product, scan, sign, judge and promote it
	@deploy/product/make-image

clean: ## Remove the virtual environment and the demo's state
	rm -rf $(VENV) site .registry-pipelines deploy/demo/.registry-pipelines
