# From a fresh clone with nothing but Python (3.11 or newer) and git: `make demo`, `make test`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
DEMO   := outputs/demo
TOY    := outputs/toy
# What train-toy makes; smaller numbers for a try of all its steps (docs/training.md).
TOY_VIDEOS := 500
TOY_VAE_STEPS := 8000
TOY_STEPS := 5000

# The environment has libtpu, to compile for TPUs: without this JAX looks for one.
export JAX_PLATFORMS ?= cpu

.PHONY: demo train-toy test test-slow plan-table lint clean

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

# $(call convert,PUBLISHED,WEIGHTS): the toy model, as a person converts the real one.
convert = $(PY) convert_torch_weights.py --config configs/model_toy.toml --ckpt_dir $(1)/Wan2.2-TI2V-5B \
	  --lora_ckpt $(1)/talkverse_s2v_5b.safetensors --wav2vec_dir $(1)/wav2vec2-large-xlsr-53-english --output $(2)

# What a person with real weights types, on the toy model of this repository (docs/toy.md).
demo: $(VENV)/installed
	$(call convert,assets/toy,$(DEMO)/weights)
	$(PY) sample.py --config configs/demo.toml --weights $(DEMO)/weights --output $(DEMO)/talk.mp4
	$(PY) -m talkverse_jax.media.contact_sheet $(DEMO)/talk.mp4 $(DEMO)/contact_sheet.png \
	  --title "talkverse_jax demo: the toy model talks"
	@echo "look at $(DEMO)/contact_sheet.png and $(DEMO)/talk.mp4; more to try: docs/toy.md"

# From nothing to weights as those in assets/toy, two hours on two cores; interrupted and given again, it goes on.
train-toy: $(VENV)/installed $(TOY)/vae/Wan2.2_VAE.pth
	$(PY) -m talkverse_jax.toy.publish --model configs/model_toy.toml --vae $(TOY)/vae/Wan2.2_VAE.pth \
	  --output $(TOY)/begin
	$(call convert,$(TOY)/begin,$(TOY)/start)
	$(PY) -m talkverse_jax prepare --config configs/prepare_toy.toml
	$(PY) train.py --config configs/train_toy.toml --max_steps $(TOY_STEPS)
	$(PY) -m talkverse_jax.toy.publish --model configs/model_toy.toml --vae $(TOY)/vae/Wan2.2_VAE.pth \
	  --dit $(TOY)/train/step-$(TOY_STEPS).safetensors --output $(TOY)/published
	@echo "the model is in $(TOY)/published; make demo takes the one in assets/toy"

# Windows without motion frames, as first clips are, come from short videos alone.
$(TOY)/world/train.csv: $(VENV)/installed
	$(PY) -m talkverse_jax.toy.make --output $(TOY)/world --videos $(TOY_VIDEOS) --square --short_share 0.35

$(TOY)/vae/Wan2.2_VAE.pth: $(TOY)/world/train.csv
	$(PY) -m talkverse_jax.toy.train_vae --config configs/vae_toy.toml --steps $(TOY_VAE_STEPS)

# The tests' programs are large and run for a moment: LLVM's optimisations would cost a third more than they give.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
test: $(VENV)/installed
	$(PY) -m pytest -n 2 --dist loadfile

# Needs about 12 GB of memory.
test-slow: $(VENV)/installed
	$(PY) -m pytest -m slow

# Compiles sampling and training for every topology of docs/tpu.md: an hour on two cores.
plan-table: $(VENV)/installed
	$(PY) -m talkverse_jax.plan.table docs/tpu.md

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) outputs build *.egg-info
