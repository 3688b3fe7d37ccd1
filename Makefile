# make retrain   from a fresh clone to a served classifier        make down   stop what was started
# make test      every test                                       make check  lint, format, types
SHELL := /bin/sh
.DEFAULT_GOAL := help
export UV_PYTHON_DOWNLOADS := never

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/uv.txt)
UV := .venv/uv/bin/uv
UV_MADE := .venv/uv/.made-with-uv-$(UV_VERSION)
STACK := .venv/airflow/bin/python -m stack

# A shell may have a NAME of its own (WSL does), so only what stands on make's command line counts.
# As it was typed: a path may have a $ in its name.
given = $(if $(filter command line,$(origin $(1))),$(value $(1)))

.PHONY: help
help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/airflow/.installed .venv/ml/.installed  ## make both Python environments, again only when their pins changed

.PHONY: up
up: setup  ## start the local stack: S3, local_sagemaker, Airflow
	@$(STACK) up

.PHONY: retrain
retrain: export RETRAIN_DATA := $(value DATA)
retrain: setup  ## retrain and serve the digits; FORCE=1 even if nothing changed; DATA=folder NAME=name: your own images
	@$(STACK) retrain $(if $(filter-out 0,$(call given,FORCE)),--force) \
		$(if $(call given,DATA),--data="$$RETRAIN_DATA") $(if $(call given,NAME),--name="$$NAME")

.PHONY: status
status: .venv/airflow/.installed  ## what of the local stack is running
	@$(STACK) status

.PHONY: down
down:  ## stop what up or retrain started, and nothing else; the data stays
	@if [ -x .venv/airflow/bin/python ]; then $(STACK) down; else echo "Nothing was ever started here."; fi

.PHONY: local-env
local-env: .venv/airflow/.installed  ## export lines for AWS clients: eval "$(make -s local-env)"
	@$(STACK) env

.PHONY: lint
lint: .venv/airflow/.installed  ## tell all that is wrong with your recipes; FILES='a.yaml b.yaml': with these
	@PYTHONPATH=plugins .venv/airflow/bin/python -m retraining lint $(call given,FILES)

DOCUMENTS := README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE docs local_sagemaker/README.md bench/README.md
.PHONY: docs
docs: .venv/docs/.installed  ## the documents as a site in .local/site
	@rm -rf .local/docs && mkdir -p .local/docs && cp -r --parents $(DOCUMENTS) .local/docs
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --quiet --strict
	@echo ".local/site/index.html"

.PHONY: champions drill rollback
champions drill rollback: export RETRAIN_TO := $(call given,TO)
champions drill rollback: export RETRAIN_REASON := $(call given,REASON)
champions: .venv/airflow/.installed  ## which models of a recipe were champion; NAME=recipe, digits when left out
	@eval "$$($(STACK) env)" && PYTHONPATH=plugins .venv/airflow/bin/python -m retraining champions "$(or $(call given,NAME),digits)"
rollback: .venv/airflow/.installed  ## let the champion before serve again: REASON='why' [NAME=recipe TO=run]
drill: .venv/airflow/.installed  ## the same and back at once, to see that it works and how long it takes
rollback drill:
	@eval "$$($(STACK) env)" && PYTHONPATH=plugins .venv/airflow/bin/python -m retraining $@ "$(or $(call given,NAME),digits)" \
		--to="$$RETRAIN_TO" --reason="$$RETRAIN_REASON"

.PHONY: champion-rebuild
champion-rebuild: .venv/airflow/.installed  ## find a lost champion.json again, and tell it: [NAME=recipe] YES=1 writes it
	@eval "$$($(STACK) env)" && PYTHONPATH=plugins .venv/airflow/bin/python -m retraining champion "$(or $(call given,NAME),digits)" \
		--rebuild $(if $(call given,YES),--yes)

.PHONY: data-sync data-diff data-gc data-labels
data-sync: .venv/airflow/.installed  ## bring a recipe's source into the bucket, as its DAG does: [NAME=recipe]
data-diff: .venv/airflow/.installed  ## what is other in the data since the champion's: [NAME=recipe]
data-gc: .venv/airflow/.installed  ## versions and images that nothing needs any more: [NAME=recipe] YES=1 deletes them
data-labels: .venv/airflow/.installed  ## labels in doubt, and what is decided: [NAME=recipe] ARGS='--relabel IMAGE --by ann'
data-sync data-diff data-gc data-labels:
	@eval "$$($(STACK) env)" && PYTHONPATH=plugins .venv/airflow/bin/python -m retraining.dataset $(@:data-%=%) \
		"$(or $(call given,NAME),digits)" $(if $(and $(filter data-gc,$@),$(call given,YES)),--yes) \
		$(if $(filter data-labels,$@),$(ARGS))

.PHONY: release
release: .venv/airflow/.installed  ## build what people install: two wheels in dist/
	@$(STACK) release

.PHONY: schema
schema: .venv/airflow/.installed  ## write dags/recipes/recipe.schema.json anew: what editors know of recipes
	@$(STACK) schema

.PHONY: compose-env
compose-env: .venv/airflow/.installed  ## write .env with secrets for docker compose, once
	@$(STACK) compose-env

.PHONY: compose-pin
compose-pin: .venv/airflow/.installed  ## name docker compose's base images by digest, in .env
	@$(STACK) compose-pin

.PHONY: test
test: setup .venv/sdk2/.installed  ## every test; ARGS='-k name -x' or ARGS=tests/ml/test_x.py goes to pytest
	@$(STACK) test $(ARGS)

.PHONY: test-quick
test-quick: .venv/airflow/.installed  ## what needs no server, in about a minute
	@$(STACK) test --quick

# Tests of ml/ that stand on smdebug, which ends at Python 3.11, or on its format's reader.
SMDEBUG_TESTS := test_debug test_hook test_step_times test_tensors
.PHONY: test-containers
test-containers: .venv/container-training/.installed .venv/container-serving/.installed  ## ml/ on Python and torch of AWS's containers (needs Python 3.12 and 3.13: PYTHON312=, PYTHON313=)
	@.venv/container-training/bin/python -m pytest -o pythonpath=ml tests/ml --numprocesses=2 --dist=loadscope \
		$(SMDEBUG_TESTS:%=--ignore=tests/ml/%.py) $(ARGS)
	@.venv/container-serving/bin/python -m pytest tests/containers $(ARGS)

.PHONY: conformance-matrix
conformance-matrix: setup .venv/sdk2/.installed .venv/moto/.installed  ## real clients against local_sagemaker and against moto's server, as a table
	@.venv/airflow/bin/python tests/conformance/matrix.py $(ARGS)

.PHONY: bench-server
bench-server: .venv/airflow/.installed .venv/moto/.installed  ## start, rates beside moto's, lists, idle; ARGS=--quick
	@.venv/airflow/bin/python -m bench.server $(ARGS)

.PHONY: bench-store
bench-store: .venv/airflow/.installed  ## the store's processor and memory, busy and at rest; ARGS='--rounds 1'
	@.venv/airflow/bin/python -m bench.store $(ARGS)

.PHONY: bench-tuner
bench-tuner: .venv/airflow/.installed  ## Bayesian search and Hyperband beside random search; ARGS='--seeds 10'
	@.venv/airflow/bin/python -m bench.tuner --seeds 30 $(ARGS)

.PHONY: bench-promotion
bench-promotion: .venv/airflow/.installed  ## years of weekly retrains under each promotion policy; ARGS='--quick'
	@.venv/airflow/bin/python -m bench.promotion $(ARGS)

.PHONY: bench-memory
bench-memory: setup  ## memory of both servers over a million requests; ARGS='--requests 100000'
	@.venv/airflow/bin/python -m bench.million $(ARGS)

.PHONY: bench-near
bench-near: .venv/airflow/.installed  ## near-duplicates found and invented, beside a difference hash; ARGS='--images 100000'
	@PYTHONPATH=plugins .venv/airflow/bin/python -m bench.near_duplicates $(ARGS)

.PHONY: bench-shards
bench-shards: .venv/airflow/.installed .venv/ml/.installed  ## seconds to a first batch, tar shards beside single files; ARGS='--counts 2000 --rounds 3'
	@PYTHONPATH=plugins .venv/airflow/bin/python -m bench.shards $(ARGS)

.PHONY: bench-labels
bench-labels: .venv/ml/.installed  ## wrong labels found and right ones named, beside cleanlab (see bench/labels.py for what it needs); ARGS=digits
	@$(or $(PEERS),.venv/ml/bin/python) -m bench.labels $(or $(ARGS),digits)

.PHONY: data-faults
data-faults: .venv/airflow/.installed  ## 40 files of each kind of fault, and a sync killed at 50 moments; KILLS= and PLANTED= change that
	@KILLS=$(or $(call given,KILLS),50) PLANTED=$(or $(call given,PLANTED),40) .venv/airflow/bin/python -m pytest -q \
		tests/plugins/test_planted_faults.py tests/plugins/test_killed_sync.py $(ARGS)

.PHONY: data-spread
data-spread: .venv/airflow/.installed  ## a sync of 5,000 files by a processing job beside the worker's, killed too; SPREAD= changes that
	@SPREAD=$(or $(call given,SPREAD),5000) .venv/airflow/bin/python -m pytest -q tests/plugins/test_spread_sync.py $(ARGS)

.PHONY: releases
releases: .venv/airflow/.installed  ## 20 updates, 20 rollbacks and 28 bad models under load; UPDATES=, BAD=, REQUESTS= change that
	@UPDATES=$(or $(call given,UPDATES),20) BAD=$(or $(call given,BAD),28) REQUESTS=$(or $(call given,REQUESTS),20000) \
		.venv/airflow/bin/python -m pytest -q -s -p no:logging tests/plugins/test_releases_under_load.py $(ARGS)

.PHONY: bench-sync
bench-sync: .venv/airflow/.installed .venv/sync-peers/.installed  ## a folder into a bucket, beside `aws s3 sync` and s5cmd; ARGS='--images 500 --store'
	@PYTHONPATH=plugins .venv/airflow/bin/python -m bench.sync $(ARGS)

.PHONY: bench-page
bench-page: .venv/airflow/.installed  ## what a run pays for its page, with 10,000 images of 133 classes
	@PYTHONPATH=plugins:. .venv/airflow/bin/python -m bench.page $(ARGS)

.PHONY: bench-pictures
bench-pictures: .venv/airflow/.installed  ## how many of 10,000 good pictures the data step refuses; ARGS='--count 1000'
	@.venv/airflow/bin/python -m bench.good_pictures $(ARGS)

# The benchmarks of ml/ run beside their peers on the same torch; ARGS=--quick for few rounds.
.PHONY: bench-data bench-frozen bench-step bench-accuracy bench-serving bench-hook bench-rules bench-faults bench-gpu
bench-data: .venv/ml/.installed .venv/peers/.installed  ## five epochs from JPEGs beside torchvision's loaders and DALI
	@.venv/ml/bin/python -m bench.data_epochs $(ARGS)
bench-frozen: .venv/ml/.installed .venv/peers/.installed  ## twenty trials of a head beside an Optuna loop
	@.venv/ml/bin/python -m bench.frozen_trials $(ARGS)
bench-step: setup .venv/peers/.installed  ## a training step beside torchvision's and timm's
	@.venv/airflow/bin/python -m bench.train_step $(ARGS)
bench-accuracy: setup .venv/peers/.installed  ## seconds from a folder to an accuracy, beside the student projects' recipe
	@.venv/airflow/bin/python -m bench.time_to_accuracy $(ARGS)
bench-serving: .venv/ml/.installed .venv/peers/.installed  ## the model server beside TorchServe (needs java) and LitServe
	@.venv/ml/bin/python -m bench.serving $(ARGS)
bench-hook: .venv/ml/.installed  ## what watching a training costs, beside smdebug's hook
	@.venv/ml/bin/python bench/hook.py $(ARGS)
bench-rules: .venv/ml/.installed .venv/peers/.installed  ## judging 10,000 steps, beside a loop over smdebug's reader
	@.venv/peers/bin/python -m bench.rules $(ARGS)
bench-faults: .venv/ml/.installed  ## which planted faults the rules find, and which healthy trainings they accuse
	@.venv/ml/bin/python -m bench.planted_faults $(ARGS)
bench-gpu: .venv/ml/.installed .venv/peers/.installed  ## training, decoding, heads, serving and the hook on one NVIDIA GPU
	@.venv/ml/bin/python -m bench.gpu $(ARGS)

.PHONY: kill-test
kill-test: .venv/airflow/.installed  ## kill -9 the server 300 times under load; ARGS='--kills 1000 --seed 2'
	@.venv/airflow/bin/python -m bench.kill $(ARGS)

.PHONY: fuzz
fuzz: setup .venv/fuzz/.installed  ## strangers' bytes for every reader and server; ARGS='--minutes 120 recipe zip' (Linux)
	@.venv/airflow/bin/python -m tests.fuzz $(ARGS)

.PHONY: faults
faults: .venv/airflow/.installed  ## what befalls a run of the DAG, simulated: kills, weather, zombies, people; ARGS='--kinds kills --dag stock'
	@.venv/airflow/bin/python -m tests.faults $(ARGS)

.PHONY: kill-runs
kill-runs: setup  ## kill -9 whichever process of the real stack while it retrains; ARGS='--kills 200 --seed 2 --folder DIR' (hours)
	@.venv/airflow/bin/python -m tests.faults.real $(ARGS)

# ml/ is checked as the oldest Python that it runs on sees it, against the torch of its own environment.
.PHONY: check
check: .venv/airflow/.installed .venv/ml/.installed  ## ruff and mypy
	@.venv/airflow/bin/ruff check .
	@.venv/airflow/bin/ruff format --check .
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types types-ml types-bench

.PHONY: types types-ml types-bench
types: .venv/airflow/.installed
	@.venv/airflow/bin/mypy
types-ml: .venv/airflow/.installed .venv/ml/.installed
	@MYPYPATH=ml .venv/airflow/bin/mypy --python-executable .venv/ml/bin/python --python-version 3.10 --cache-dir .mypy_cache/ml ml
# Benchmarks run seldom: only whether what they call is there, and called as it wants to be.
OF_NO_CALL := arg-type assignment call-overload index misc operator type-var var-annotated
types-bench: .venv/airflow/.installed .venv/ml/.installed
	@MYPYPATH=.:ml:plugins .venv/airflow/bin/mypy --config-file= --explicit-package-bases --ignore-missing-imports --python-executable .venv/ml/bin/python \
		$(addprefix --disable-error-code=,$(OF_NO_CALL)) --cache-dir .mypy_cache/bench -p bench

.PHONY: lock
lock: $(UV_MADE)  ## compile pyproject.toml's dependency groups into requirements/ with hashes, keeping pins that still fit
	@for pair in airflow:3.11 ml:3.11 sdk2:3.11 moto:3.11 docs:3.11 fuzz:3.11 peers:3.11 sync-peers:3.11 postgres:3.11 uv:3.11 container-training:3.12 container-serving:3.13; do \
		group=$${pair%:*}; echo "locking requirements/$$group.txt"; \
		$(UV) pip compile --quiet --group $$group --python-version $${pair#*:} --no-header --no-emit-index-url --generate-hashes \
			--output-file requirements/$$group.txt || exit 1; \
	done

# The environments of AWS's containers have Pythons of their own; the others that of uv.
python_for = $(if $(filter container-training,$1),$(or $(PYTHON312),python3.12),$(if $(filter container-serving,$1),$(or \
	$(PYTHON313),python3.13),.venv/uv/bin/python))

# A job writes no bytecode, as in AWS's containers, and would compile torch anew each time: 7 s of a small training.
# Progress goes to stderr: what `make -s local-env` prints is meant for a shell.
.venv/%/.installed: requirements/%.txt $(UV_MADE)
	@echo "setup: .venv/$* from requirements/$*.txt$(if $(filter ml,$*), (torch is large: some minutes on a slow line))" >&2
	@.venv/$*/bin/python -c '' 2>/dev/null || $(UV) venv --quiet --clear --python $(call python_for,$*) .venv/$*
	@[ -t 2 ] || quiet=--quiet; $(UV) pip sync $$quiet $(if $(filter ml,$*),--compile-bytecode) --require-hashes --python .venv/$*/bin/python requirements/$*.txt >&2
	@touch $@

$(UV_MADE):
	@python= ; for candidate in $(or $(PYTHON),python3.11 python3 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then \
			python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 is needed (the last one that smdebug runs on), and it was not found as $(or $(PYTHON),python3.11 or python3)." >&2; \
		echo "Install it (Debian, Ubuntu: python3.11 and python3.11-venv; macOS: brew install python@3.11; anywhere: pyenv" >&2; \
		echo "install 3.11) or tell where it is: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
	echo "setup: uv $(UV_VERSION) with $$("$$python" -c 'import sys; print(sys.executable)')" >&2; \
	rm -rf .venv/uv; "$$python" -m venv .venv/uv && .venv/uv/bin/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt >&2
	@touch $@
