"""Eight virtual devices, one compile cache for the session and all processes it starts, and tiny weights.

Annotated shapes and dtypes are checked at every call, in all modules that are imported after this one.
"""

import atexit
import gc
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = tempfile.mkdtemp(prefix="talkverse_jax_tests_")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",  # what compiles faster is many small files
    }

from pathlib import Path

import jax
import jaxtyping
import pytest

from tests.annotations import check

jaxtyping.install_import_hook("talkverse_jax", f"{check.__module__}.{check.__name__}")

import tests.second  # noqa: E402, F401  # a family, which registers itself

GOLDENS = Path(__file__).parent / "goldens"
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(autouse=True)
def full_precision():
    """Goldens are float32: accelerators need full-precision products to compare with them."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file():
    """What a file of tests traced and compiled is forgotten with it: gigabytes of it slow down all that follow, as
    every collection of garbage searches them. What is left are modules, which no collection need search again."""
    yield
    jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture
def golden():
    """`golden("vae")` opens the reference bundle tests/goldens/vae.safetensors."""
    from talkverse_jax.weights.bundle import Bundle

    return lambda name: Bundle(GOLDENS / f"{name}.safetensors")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A random checkpoint of configs/model_tiny.toml in the published layout: its paths by flag."""
    from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
    from talkverse_jax.families.talkverse.family import FAMILY

    folder, configs = tmp_path_factory.mktemp("published"), FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
    return write_random_checkpoint(FAMILY, folder, configs, seed=0)


@pytest.fixture(scope="session")
def tiny_weights(tiny_checkpoint, tmp_path_factory):
    """The folder of converted weights made from `tiny_checkpoint`. Do not change it."""
    from talkverse_jax.families.talkverse.family import FAMILY
    from tests.published import converted

    configs = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
    return converted(tmp_path_factory.mktemp("weights"), configs, tiny_checkpoint)


@pytest.fixture(scope="session")
def tiny_pairs_apart(tiny_checkpoint, tmp_path_factory):
    """The transformer of `tiny_checkpoint` in float32, its LoRA pairs (alpha 64) beside it. Do not change it."""
    from talkverse_jax.families.talkverse.family import FAMILY
    from tests.published import converted

    configs, options = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml"), dict(components=("dit",), dtype="float32")
    options |= dict(lora_alpha=64.0, lora_merge=False)
    return converted(tmp_path_factory.mktemp("pairs_apart"), configs, tiny_checkpoint, **options)
