# The project's few commands; `make help` lists them. Everything else is the workflow's (see Snakefile).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# CONFIG=studies/x.yaml takes another study than config.yaml.
CONFIG ?=
# FOLDER=path/to/data says where the files of a study are that asks for a folder.
FOLDER ?=
# TORCH_BACKEND=cpu (or cu130, ...) chooses the build of torch, which then stays; plain pip does when it was never given.
TORCH_BACKEND ?=
# STUDY=name is the archived study that `make rebuild` takes.
STUDY ?=

UV := uv==0.13.8
TORCH := $(shell sed -nE 's/^ *"(torch==[^"]+)",?$$/\1/p' pyproject.toml)
HAS := $(shell cat .venv/backend 2> /dev/null)
BACKEND := $(or $(TORCH_BACKEND),$(HAS))
SLURM := slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core
CHROMIUM := chromium
LATEX := latexmk texlive-latex-recommended texlive-fonts-recommended lmodern

# A command in the environment: its programs come first, and it is no other environment's.
INSIDE := export VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/.venv/bin:$$PATH"; unset PYTHONPATH PYTHONHOME;

.PHONY: help report rebuild test test-matrix test-page test-slurm lint clean lock latex slurm chromium

help:  ## say what there is
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 18

report: .venv/ready latex  ## make the study's report: results/<study>/paper/report.pdf and report.html
	@$(INSIDE)
	mkdir -p .snakemake
	exec 9> .snakemake/report.lock
	flock -n 9 || { echo "Another 'make report' is under way in this folder; wait for it, or stop it first." >&2; exit 1; }
	at=$$(python -c 'from peftstudy import locks; print(*locks.snakemakes())')
	[ -z "$$at" ] || { echo "Snakemake is at work in this folder (process $$at); wait for its end, or stop it first." >&2; exit 1; }
	study() { snakemake --cores all $(if $(CONFIG),--configfile "$(CONFIG)") $(if $(FOLDER),--config "folder=$(FOLDER)") "$$@"; }
	# A study that was killed left a lock, which goes, and half-made files, which are made again.
	study --unlock --quiet all
	study --rerun-incomplete --quiet rules
	study=$$(python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["study"])' "$(or $(CONFIG),config.yaml)")
	echo
	echo "The report: results/$$study/paper/report.pdf, and results/$$study/report.html to look around in"
	cat "results/$$study/paper/headline.txt"

rebuild: .venv/ready latex  ## make the report of STUDY=name again, from results/archive/ alone
	@$(INSIDE)
	[ -n "$(STUDY)" ] || { echo "Say which: make rebuild STUDY=name; there are: $$(cd results/archive && echo */)" >&2; exit 1; }
	snakemake --cores all --config "rebuild=$(STUDY)" --rerun-incomplete --quiet rules
	echo
	echo "The report: results/rebuilt/$(STUDY)/paper/report.pdf, and results/rebuilt/$(STUDY)/report.html to look around in"
	cat "results/rebuilt/$(STUDY)/paper/headline.txt"

test: .venv/ready latex  ## run the checks and tests that need no Slurm and no browser, without a network
	@$(INSIDE)
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slurm and not browser and not matrix"

test-matrix: .venv/ready  ## hold every method on every family under every task against the contract
	@$(INSIDE)
	OMP_NUM_THREADS=1 pytest -n 2 --dist load tests/test_contract.py

test-page: .venv/ready chromium  ## run the tests of the report's page in a real browser
	@$(INSIDE)
	OMP_NUM_THREADS=1 pytest -m browser tests/test_page_browser.py

test-slurm: .venv/ready slurm  ## run the tests on a real Slurm, started for them on this machine
	@$(INSIDE)
	OMP_NUM_THREADS=1 pytest -n 3 -m slurm tests/test_slurm.py tests/test_slurm_accounting.py

lint: .venv/ready  ## check the code's style alone
	@$(INSIDE)
	pytest tests/test_style.py

clean:  ## remove the environment and the caches; results/ stays, and what Snakemake knows of how it was made
	rm -rf .venv .pytest_cache .ruff_cache
	find .snakemake -mindepth 1 -maxdepth 1 ! -name metadata ! -name incomplete -exec rm -rf {} + 2>/dev/null || true
	find src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock leaves out torch and its CUDA packages: which build fits is a matter of the machine.
lock: .venv/ready  ## write requirements.lock and envs/ again, from pyproject.toml
	@$(INSIDE)
	compile() { uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --quiet "$$@"; }
	unlocked=$$(compile --no-annotate | sed -nE 's/^((torch|triton|nvidia-|cuda-)[^=]*)==.*/--no-emit-package \1/p')
	cp requirements.lock .venv/requirements.lock
	compile --generate-hashes $$unlocked --output-file .venv/requirements.lock > /dev/null
	cp .venv/requirements.lock requirements.lock
	python -m peftstudy.environment

# The environment is whole or it is made again: .venv/locked is written after the last locked package,
# .venv/ready after torch and the package itself. Another build of torch is installed over the one that is there, whose
# version is the same.
ifneq ($(BACKEND),$(HAS))
.PHONY: .venv/ready
endif
.venv/ready: .venv/locked pyproject.toml
	@$(INSIDE)
	echo "Installing $(TORCH) and peftstudy into .venv."
	if [ -n "$(BACKEND)" ]; then
		rm -f .venv/ready .venv/backend
		UV_COMPILE_BYTECODE=1 uv pip install --torch-backend "$(BACKEND)"$(if $(filter $(BACKEND),$(HAS)),, --reinstall-package torch) "$(TORCH)"
		echo "$(BACKEND)" > .venv/backend
	else
		python -m pip install --disable-pip-version-check --quiet "$(TORCH)"
	fi
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/ready

.venv/locked: requirements.lock
	@if [ -f .venv/locked ] && [ "$$(sha256sum < requirements.lock)" = "$$(cat .venv/locked)" ]; then
		touch .venv/locked
		exit
	fi
	echo "Making the environment in .venv, once: one to three minutes."
	PATH=$${PATH//"$(CURDIR)/.venv/bin:"/} # an activated one, which is about to go, makes no other
	fits() { "$$1" -c "import sys, $$2; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" 2> /dev/null; }
	python=
	for candidate in python3.13 python3.12 python3.11 python3 python; do
		if fits $$candidate ensurepip; then python=$$candidate; break; fi
	done
	for candidate in python3.13 python3.12 python3.11 python3 python; do
		[ -n "$$python" ] && break
		fits $$candidate sys || continue
		package=$$($$candidate -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
		if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
			export DEBIAN_FRONTEND=noninteractive
			apt-get update -qq && apt-get install -qq -y --no-install-recommends $$package > /dev/null || true
		fi
		if fits $$candidate ensurepip; then python=$$candidate; break; fi
		echo "$$candidate cannot make environments: install the package $$package (apt-get install $$package), then try again." >&2
		exit 1
	done
	if [ -z "$$python" ]; then
		echo "No Python 3.11, 3.12 or 3.13 was found: install one (apt-get install python3 python3-venv), then try again." >&2
		exit 1
	fi
	rm -rf .venv
	"$$python" -m venv .venv
	$(INSIDE)
	python -m pip install --disable-pip-version-check --quiet $(UV)
	UV_COMPILE_BYTECODE=1 uv pip install --quiet --no-deps --require-hashes -r requirements.lock
	sha256sum < requirements.lock > .venv/locked

# $(call provide,NAME,PACKAGES,HOW LONG,WHAT FOLLOWS): as root, install what complete() finds missing; where that cannot
# be, a sentence names the packages, and make goes on.
define provide
	complete && exit
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
		echo "Installing $(1) ($(2)): $(3)."
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2) > /dev/null || true
	fi
	complete || echo "$(1) is missing, and $(4): install $(2) (on Debian or Ubuntu: sudo apt-get install $(2))." >&2
endef

# Without LaTeX the workflow says so at the report, after all that needs none.
latex:
	@complete() { command -v latexmk > /dev/null && kpsewhich booktabs.sty > /dev/null && kpsewhich lmodern.sty > /dev/null && kpsewhich utmr8a.pfb > /dev/null; }
	$(call provide,LaTeX,$(LATEX),about a minute,the report needs it)

chromium:
	@complete() { for program in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$program > /dev/null && return; done; return 1; }
	$(call provide,Chromium,$(CHROMIUM),half a minute,its tests are skipped)

# Root is wanted for the packages alone: the tests start daemons of their own, as whoever runs them.
slurm:
	@export PATH="$$PATH:/usr/sbin:/sbin"
	complete() { for program in slurmctld slurmd squeue munged slurmdbd mariadbd; do command -v $$program > /dev/null || return 1; done; }
	$(call provide,Slurm,$(SLURM),twenty seconds,its tests are skipped)
