"""What can be said of `benchmarks/tpu_maxdiffusion.py` without a checkout of MaxDiffusion."""

import importlib.util
import math
from pathlib import Path

import pytest

from talkverse_jax.core.errors import UserError

FILE = Path(__file__).parents[2] / "benchmarks" / "tpu_maxdiffusion.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("tpu_maxdiffusion", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_have_the_same_tokens(benchmark):
    assert benchmark.tokens_of(benchmark.our_run("5b")) == 13_000 == math.prod(benchmark.grid_of(13_000))
    assert benchmark.grid_of(13_000) == (20, 25, 26)


def test_a_clone_that_is_none_is_named(benchmark, tmp_path):
    with pytest.raises(UserError, match="is no checkout of MaxDiffusion"):
        benchmark.main(["--clone", str(tmp_path)])
