# What people type; `make` alone lists it. Needs make, a POSIX shell and Python 3.11 to 3.14.
#
# Variables: CORES  how many cores Snakemake may use (all)
#            CONFIG an overlay of config.yaml, for example config/sd15.yaml
#            STUDY  the config's `study`, whose tables are printed (the overlay's name, or shapes)
#            REPORT the file that `make report` writes, .zip or .html (report.zip); given to
#                   `make evaluate`, that writes it, too
#            MODELS 1 puts the weights into the archive that `make archive` writes
#            VERBOSE 1 prints all that Snakemake and the jobs say
#            FAMILY whose sizes `make full-size` takes: sd15, sd21, sdxl, sd35 or flux (sd15)
#            HOST, PORT  where `make demo` listens (127.0.0.1, 7860)
#            ARGS   further arguments of snakemake, pytest or the demo
#            PYTHON the Python that .venv is made from (the first of a few names that fits, or one
#                   that uv fetches)

CORES ?= all
CONFIG ?=
STUDY ?= $(if $(CONFIG),$(basename $(notdir $(CONFIG))),shapes)
ARGS ?=
REPORT ?= report.zip
FAMILY ?= sd15
HOST ?= 127.0.0.1
PORT ?= 7860
PYTHON ?= python3.12 python3.13 python3.11 python3.14 python3

INSTALLED = .venv/requirements.lock
DEV = .venv/requirements-dev.lock
DEMO = .venv/requirements-demo.lock
# Rules call `python`: it must be the one of .venv, activated or not.
RUN = PATH="$$PWD/.venv/bin:$$PATH" PYTHONPATH="$$PWD/scripts$${PYTHONPATH:+:$$PYTHONPATH}" .venv/bin/python -m
# A run on one screen; VERBOSE=1 for all that Snakemake and the jobs say.
SCREEN = $(if $(VERBOSE),,--logger vlg)
WHICH = $(if $(CONFIG), CONFIG="$(CONFIG)")$(if $(filter command,$(firstword $(origin STUDY))), STUDY="$(STUDY)")
# Snakemake itself would end in a traceback.
ifneq ($(CONFIG),)
ifneq ($(shell test -f "$(CONFIG)" && echo there),there)
$(error CONFIG: no file $(CONFIG); check the path)
endif
endif
OVERLAY = $(if $(CONFIG),--configfile "$(CONFIG)")

.PHONY: judges-selftest help demo study evaluate methods full families full-size files tables figures gallery report verify archive pretrain test test-slow test-slurm lint
.PHONY: lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

study: $(INSTALLED) ## set up .venv, run the whole study, print its tables
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS) $(OVERLAY)
	@for table in finetune refinement hard_prompts; do \
	    printf '\n%s\n\n' "$$table"; cat "results/$(STUDY)/tables/$$table.md" || exit; \
	done
	@printf '\nPictures: open results/%s/gallery/index.html in a browser.\n' "$(STUDY)"

evaluate: $(INSTALLED) ## compare finished models and pictures that CONFIG names; nothing is trained
	@$(RUN) snakemake evaluate $(SCREEN) --cores $(CORES) $(ARGS) \
	    --configfile config/evaluate.yaml $(if $(CONFIG),"$(CONFIG)")
	@printf '\n%s\n\n' compare; cat "results/$(STUDY)/tables/compare.md"
	@printf '\nPictures: open results/%s/gallery/index.html in a browser.\n' "$(STUDY)"
	@$(if $(filter command,$(firstword $(origin REPORT))),$(RUN) snakemake --report "$(REPORT)" $(ARGS) \
	    --configfile config/evaluate.yaml $(if $(CONFIG),"$(CONFIG)"))

# Both run without CONFIG: each overlay is laid over config.yaml.
full: $(INSTALLED) ## the whole evaluation in the shapes world: five trainings, all arms, two bases
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS) --configfile config/shapes-full.yaml
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS) --configfile config/shapes-early.yaml
	@.venv/bin/python tools/strength.py results/shapes-early results/shapes-full

# Without CONFIG, too: what is compared is the default study and its overlay.
families: $(INSTALLED) ## the study on a UNet and on a transformer with flow, their verdicts side by side
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS)
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS) --configfile config/shapes-flow.yaml
	@printf '\n%s\n\n' families; .venv/bin/python tools/families.py

# The overlay comes first, so that a smaller one, or one of your own, lies over it.
methods: STUDY = $(if $(CONFIG),$(basename $(notdir $(CONFIG))),methods)
methods: $(INSTALLED) ## every way to guide over a ladder of doses (CONFIG=config/methods-small.yaml: in minutes)
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(ARGS) \
	    --configfile config/methods.yaml $(if $(CONFIG),"$(CONFIG)")
	@for table in methods dose controls; do \
	    [ -e "results/$(STUDY)/tables/$$table.md" ] || continue; \
	    printf '\n%s\n\n' "$$table"; cat "results/$(STUDY)/tables/$$table.md" || exit; \
	done
	@printf '\nPictures: open results/%s/gallery/index.html in a browser.\n' "$(STUDY)"

judges-selftest: $(INSTALLED) ## look for traps in judges and guide that move ClipScores silently
	@$(RUN) snakemake judges_selftest $(SCREEN) --cores $(CORES) $(OVERLAY) $(ARGS)
	@cat "results/$(STUDY)/judges/selftest.md"

files: $(INSTALLED) ## only the files named by ARGS, and what they need
	@$(RUN) snakemake $(ARGS) $(SCREEN) --cores $(CORES) $(OVERLAY)

tables figures gallery: $(INSTALLED)
	@$(RUN) snakemake $@ $(SCREEN) --cores $(CORES) $(OVERLAY) $(ARGS)
tables: ## only the tables and what they need
figures: ## only the figures and what they need
gallery: ## only the gallery and what it needs

report: $(INSTALLED) ## the whole study as one file, report.zip (or REPORT=report.html)
	@$(RUN) snakemake $(SCREEN) --cores $(CORES) $(OVERLAY) $(ARGS)
	@$(RUN) snakemake --report "$(REPORT)" $(OVERLAY) $(ARGS)

# Snakemake keeps copies of rules in the user's cache folder, and would end in a traceback without one.
study evaluate methods full families files tables figures gallery report pretrain judges-selftest: | home
.PHONY: home
CACHE = import os, platformdirs as p; os.makedirs(p.user_cache_dir("snakemake", "snakemake"), exist_ok=True)
home: $(INSTALLED)
	@.venv/bin/python -c '$(CACHE)' 2>/dev/null || { \
	    echo "error: $${XDG_CACHE_HOME:-$$HOME/.cache}: no cache folder can be made there; set" \
	        'XDG_CACHE_HOME to one that can be written, as in XDG_CACHE_HOME="$$PWD/.cache" make' >&2; \
	    exit 1; \
	}

# Of a study that has not run the demo needs these; in the shapes world they take seconds.
DRAWS = prompts.tsv models/base/manifest.json models/guide/manifest.json models/judge/manifest.json
WANTED = $(addprefix results/$(STUDY)/,$(DRAWS))
demo: $(DEMO) ## open a local page that draws with the study's models and takes people's votes
	@for file in $(WANTED); do \
	    [ -e "$$file" ] || exec $(MAKE) --no-print-directory files ARGS="$(WANTED)"; \
	done
	@.venv/bin/python scripts/demo.py --configfile config.yaml $(if $(CONFIG),"$(CONFIG)") \
	    --host "$(HOST)" --port "$(PORT)" $(ARGS)

verify: $(INSTALLED) ## hash a study again and name what differs (ARGS=--repair to restore or delete it)
	@.venv/bin/python scripts/verify.py --study "results/$(STUDY)" $(ARGS) \
	    --run 'make study$(WHICH)' --verify 'make verify$(WHICH)' --files 'make files$(WHICH)'

full-size: $(INSTALLED) ## each stage once at true size, with random weights (FAMILY=sd21, sdxl, sd35, flux)
	@.venv/bin/python bench/full_size.py --family "$(FAMILY)" $(ARGS)

archive: $(INSTALLED) ## one file of a finished study, without weights, or with them (MODELS=1)
	@.venv/bin/python scripts/archive.py --study "results/$(STUDY)" $(if $(MODELS),--models) \
	    --out "$(STUDY)$(if $(MODELS),-models).tar.gz" $(ARGS)

pretrain: $(INSTALLED) ## train the shipped tiny models again from scratch
	@$(RUN) snakemake pretrain $(SCREEN) --cores $(CORES) $(OVERLAY) $(ARGS)

# One thread a worker, so that workers don't fight for the cores; few workers, each loads torch.
test: lint $(DEMO) ## check the code and run the tests
	@OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
	    --no-loadscope-reorder --durations 15 $(ARGS)

test-slurm: $(DEV) ## run the study on a Slurm that the test starts (root, Debian packages)
	@OMP_NUM_THREADS=1 $(RUN) pytest -m "slow or not slow" tests/test_slurm.py $(ARGS)

test-slow: $(DEV) ## run the tests that take minutes
	@$(RUN) pytest -m slow $(ARGS)

lint: $(DEV) ## check style and rules
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) snakefmt --check Snakefile rules/*.smk rules/*/*.smk
	@$(RUN) snakemake --lint

lock: $(DEV) ## pin requirements*.in anew (ARGS=--upgrade for the newest releases)
	@$(RUN) tools.lock $(ARGS)

clean: ## remove results and Snakemake's records, keep .venv
	rm -rf results .snakemake

# The copy of the lock is what .venv holds. It is made last, so an interrupted set-up starts anew,
# and it is compared by content, so a fresh time stamp on the lock installs nothing. A Python is
# fetched only where PYTHON is left as it is.
$(INSTALLED): requirements.lock
	@set -e; \
	if cmp -s requirements.lock $@; then exec touch $@; fi; \
	sh tools/venv.sh make $(if $(filter file,$(origin PYTHON)),--fetch) $(PYTHON); \
	echo 'Installing the locked packages into .venv (6.5 GB, some minutes)'; \
	sh tools/venv.sh fill requirements.lock; \
	cp requirements.lock $@

# What tests and upkeep need on top; an installer wants to see all that these need, so both locks.
$(DEV): $(INSTALLED) requirements-dev.lock
	@set -e; \
	if cmp -s requirements-dev.lock $@; then exec touch $@; fi; \
	echo 'Installing what tests need into .venv'; \
	sh tools/venv.sh fill requirements.lock requirements-dev.lock; \
	cp requirements-dev.lock $@

# The lock holds all that the demo adds, so nothing else is looked at (tools/lock.py says why).
$(DEMO): $(INSTALLED) requirements-demo.lock
	@set -e; \
	if cmp -s requirements-demo.lock $@; then exec touch $@; fi; \
	echo 'Installing what the demo needs into .venv'; \
	sh tools/venv.sh add requirements-demo.lock; \
	cp requirements-demo.lock $@
