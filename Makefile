# From a fresh clone with nothing but Python (3.11 or newer) and git: `make demo`, `make test`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
TVJ    := $(PY) -m talkverse_jax
DEMO   := outputs/demo
DEMO_PORT := 8765
LIVE_SECONDS := 60
TOY    := outputs/toy
# What train-toy makes. Take smaller numbers to try all of its steps (docs/training.md).
TOY_VIDEOS := 500
TOY_AUDIO_STEPS := 1200
TOY_VAE_STEPS := 6000
TOY_STEPS := 8000

# A developer's environment has libtpu, to compile for TPUs: without this JAX looks for one.
export JAX_PLATFORMS ?= cpu

.PHONY: demo demo-serve demo-live train-toy test test-slow lint flags plan-table wheels clean

# What a user needs.
$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# What a server needs besides.
$(VENV)/installed-serve: $(VENV)/installed
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[serve]"
	@touch $@

# What a developer needs besides: the tests, ruff, pyright, the compiler for TPUs.
$(VENV)/installed-dev: $(VENV)/installed
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

# $(call convert,PUBLISHED,WEIGHTS): the toy model, as a person converts the real one.
convert = $(TVJ) convert --config model_toy --ckpt_dir $(1)/Wan2.2-TI2V-5B \
	  --lora_ckpt $(1)/talkverse_s2v_5b.safetensors --wav2vec_dir $(1)/wav2vec2-large-xlsr-53-english --output $(2)

# What a person with real weights types, on the toy model of this repository (docs/toy.md).
demo: $(VENV)/installed
	$(call convert,assets/toy,$(DEMO)/weights)
	$(TVJ) sample --config demo --weights $(DEMO)/weights --output $(DEMO)/talk.mp4
	$(TVJ) contact-sheet $(DEMO)/talk.mp4 $(DEMO)/contact_sheet.png \
	  --title "talkverse_jax demo: the toy model talks"
	@echo "look at $(DEMO)/contact_sheet.png and $(DEMO)/talk.mp4; more to try: docs/toy.md"

# A server with the toy model, and its page; it prints the address. DEMO_PORT=0 takes any free port.
demo-serve: $(VENV)/installed-serve
	test -f $(DEMO)/weights/manifest.json || $(call convert,assets/toy,$(DEMO)/weights)
	$(TVJ) serve --config demo --weights $(DEMO)/weights --data_dir $(DEMO)/serve --port $(DEMO_PORT)

# The toy model answers voices that come at their own speed, and tells frames a second, latency and memory (docs/live.md).
demo-live: $(VENV)/installed
	test -f $(DEMO)/weights/manifest.json || $(call convert,assets/toy,$(DEMO)/weights)
	$(PY) -m talkverse_jax.toy.voice --seconds $(LIVE_SECONDS) | \
	  $(TVJ) stream --config demo_live --weights $(DEMO)/weights --sound - --output $(DEMO)/live.mp4 \
	  --report $(DEMO)/live.jsonl
	@echo "look at $(DEMO)/live.mp4"

# Makes the weights of assets/toy from nothing, in two hours on two cores. Interrupted and given again, it goes on.
train-toy: $(VENV)/installed $(TOY)/audio.safetensors $(TOY)/vae/Wan2.2_VAE.pth
	$(PY) -m talkverse_jax.toy.publish --model configs/model_toy.toml --vae $(TOY)/vae/Wan2.2_VAE.pth \
	  --audio $(TOY)/audio.safetensors --output $(TOY)/begin
	$(call convert,$(TOY)/begin,$(TOY)/start)
	$(TVJ) prepare --config prepare_toy
	$(TVJ) train --config train_toy --max_steps $(TOY_STEPS)
	$(PY) -m talkverse_jax.toy.publish --model configs/model_toy.toml --vae $(TOY)/vae/Wan2.2_VAE.pth \
	  --audio $(TOY)/audio.safetensors --dit $(TOY)/train/step-$(TOY_STEPS).safetensors --output $(TOY)/published
	@echo "the model is in $(TOY)/published; make demo takes the one in assets/toy"

# Only short videos give windows without motion frames, which first clips are.
$(TOY)/world/train.csv: $(VENV)/installed
	$(TVJ) toy-world --output $(TOY)/world --videos $(TOY_VIDEOS) --square --short_share 0.35

$(TOY)/audio.safetensors: $(VENV)/installed
	$(PY) -m talkverse_jax.toy.train_audio --model configs/model_toy.toml --steps $(TOY_AUDIO_STEPS) --output $@

$(TOY)/vae/Wan2.2_VAE.pth: $(TOY)/world/train.csv
	$(PY) -m talkverse_jax.toy.train_vae --config configs/vae_toy.toml --steps $(TOY_VAE_STEPS)

# The tests' programs are large and run for a moment: LLVM's optimisations would cost a third more than they save.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
test: lint
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Needs about 12 GB of memory.
test-slow: $(VENV)/installed-dev
	$(PY) -m pytest -m slow

# pre-commit runs the same three.
lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

# A test compares the page with the options in the code.
flags: $(VENV)/installed
	$(PY) -m talkverse_jax.cli.flags_table > docs/flags.md

# Compiles sampling and training for every row of docs/tpu.md: hours on two cores. Interrupted, it keeps the rows that
# are finished. For some rows only: make plan-table ROWS="--only v6e-8"
plan-table: $(VENV)/installed-dev
	$(TVJ) plan-table docs/tpu.md $(ROWS)

# The program, the toy model, and the client alone, to be installed where there is no clone.
wheels: $(VENV)/installed
	rm -rf build assets/build integrations/client/build
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./assets ./integrations/client

clean:
	rm -rf $(VENV) outputs build dist *.egg-info assets/build assets/*.egg-info
	rm -rf integrations/client/build integrations/client/*.egg-info
