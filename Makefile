# Every target sets up what it needs, in the folder VENV. Python 3.11 to 3.14: the newest found, or the one PYTHON names.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# From the index that pip is set to.
UV_INSTALL = index=$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}; \
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $${index:+--default-index $$index}
# One file's tests run in one worker, and so share what the file sets up; tests/conftest.py refines it.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: demo train airflow up down test test-all bench onnx lint clean help

help: ## these commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(INSTALLED) ## the whole training workflow on a synthesized corpus, in minutes
	@$(BIN)/python -m emotion.commands.local_run demo

DATASET ?= ravdess-speech
SOURCE ?= $(RAVDESS_DIR)
train: export DATASET := $(DATASET)
train: export SOURCE := $(SOURCE)
train: export STRESS_CLIPS := $(STRESS_CLIPS)
train: export ALSO_TEST_ON := $(ALSO_TEST_ON)
bench: export RAVDESS_DIR := $(RAVDESS_DIR)
train: $(INSTALLED) ## train on RAVDESS from Zenodo; RAVDESS_DIR=folder-or-zip takes it from disk, DATASET= and SOURCE= other data
	@$(BIN)/python -m emotion.commands.local_run train --dataset "$$DATASET" $${SOURCE:+--source "$$SOURCE"} \
		$${STRESS_CLIPS:+--stress-clips "$$STRESS_CLIPS"} $${ALSO_TEST_ON:+--also-test-on "$$ALSO_TEST_ON"}

airflow: $(INSTALLED) ## Airflow's UI and scheduler on 127.0.0.1, until Ctrl-C
	@$(BIN)/python -m emotion.commands.local_run serve

# The profile of the S3 server of one's own, where .env says that the artifacts are there.
OWN_S3 = $(if $(shell grep -s '^AWS_ENDPOINT_URL=http://s3:8333' .env),--profile s3)
up: .env ## the whole stack in containers, with Grafana; WORKERS=4 runs the tasks on four Celery workers
	@mkdir -p -m 755 recordings inbox
	@added=$$(sh docker/secrets.sh .env) && { [ -z "$$added" ] || printf '%s\n' "$$added" >> .env; }
	@$(if $(WORKERS),EMOTION_EXECUTOR=CeleryExecutor EMOTION_SLOTS=$$((2 * $(WORKERS)))) docker compose \
		$(if $(WORKERS),--profile celery) $(OWN_S3) up --build --detach --wait --remove-orphans \
		$(if $(WORKERS),--scale airflow-worker=$(WORKERS))
	@. ./.env && echo && \
	echo "Airflow    http://localhost:$${AIRFLOW_PORT:-8080}    admin / $$AIRFLOW_ADMIN_PASSWORD" && \
	echo "Grafana    http://localhost:$${GRAFANA_PORT:-3000}    admin / $$GRAFANA_ADMIN_PASSWORD" && \
	echo "Graphite   http://localhost:$${GRAPHITE_PORT:-8081}" && \
	echo "Put audio to score into inbox/, audio to train on into recordings/. \`make down\` stops everything and keeps the data."

# rm --volumes removes the unnamed volumes that images ask for, which would pile up; the stack's own have names and stay.
down: ## stop the containers; what they have stored stays
	@docker compose --profile celery --profile s3 rm --stop --force --volumes
	@docker compose --profile celery --profile s3 down

.env:
	@umask 077 && sh docker/secrets.sh > .env.new && mv .env.new .env && echo "Secrets made: .env"

test: $(INSTALLED) ## the tests, but for those that start an Airflow or a Graphite; lists the slowest
	@$(PYTEST) -m 'not airflow and not graphite' --durations=20 $(TESTS)

test-all: $(INSTALLED) ## all tests, as CI runs them
	@$(PYTEST) --durations=20

bench: $(INSTALLED) ## speed of every part as ratios, on recordings in RAVDESS_DIR (docs/benchmarks.md)
	@test -n "$$RAVDESS_DIR" || { echo "make bench RAVDESS_DIR=folder: which recordings?" >&2; exit 2; }
	@$(BIN)/python docs/benchmarks/bench.py "$$RAVDESS_DIR" --two-cores

onnx: $(INSTALLED) ## what `emotion export --onnx` needs, into the same environment
	@$(UV_INSTALL) -r requirements-onnx.txt

lint: $(INSTALLED) ## style, types, and Airflow 3's own rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean: ## remove what the targets above have made, but for the artifacts in emotion-home/
	rm -rf .venv .venv-* .airflow

$(INSTALLED): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed and none was found; PYTHON=/path/to/python3.12 names one" >&2; exit 1; }
	@echo "Installing into $(VENV) with $$($(PYTHON) --version) (about a minute)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.txt)"
	@$(UV_INSTALL) -r requirements.txt
	@$(UV_INSTALL) --no-deps --editable .
	@$(BIN)/python -c 'import numpy, emotion.datasets.synthesis, emotion.features as f; f.extract(numpy.ones(8000))' # compiles, once
	@touch $@
