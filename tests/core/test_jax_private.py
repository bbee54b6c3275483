"""JAX's private names."""

import re
from pathlib import Path

import pytest

import talkverse_jax
from talkverse_jax.core import jax_private

PACKAGE = Path(talkverse_jax.__file__).parent


def test_they_are_all_there():
    assert jax_private.runtime().num_processes == 1 and jax_private.runtime().client is None
    assert jax_private.on_tpu_host() is False
    assert callable(jax_private._private("cudnn.fused_attention_stablehlo", "dot_product_attention"))


def test_one_that_is_gone_names_the_versions_that_were_tried():
    with pytest.raises(ImportError, match=r"no nothing in jax\._src\.distributed .*; install jax 0\.10\.2"):
        jax_private._private("distributed", "nothing")


def test_no_other_file_knows_them():
    files = [path for folder in (PACKAGE, PACKAGE.parent / "benchmarks") for path in folder.rglob("*.py")]
    assert [path.name for path in files if re.search(r"jax\._src", path.read_text())] == ["jax_private.py"]
