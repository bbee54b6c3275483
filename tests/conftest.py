import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path

import jax
import pytest

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(autouse=True)
def full_precision():
    """Goldens are float32: accelerators need full-precision products to compare with them."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def golden():
    """`golden("vae")` opens the reference bundle tests/goldens/vae.safetensors."""
    from talkverse_jax.weights.bundle import Bundle

    return lambda name: Bundle(GOLDENS / f"{name}.safetensors")
