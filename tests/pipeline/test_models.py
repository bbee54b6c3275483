"""Models as a machine asks for them: of int8, and with blocks in host memory."""

import dataclasses

import jax
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.models import Models
from talkverse_jax.pipeline.residency import resident, to_host
from tests.conftest import CONFIGS
from tests.published import converted

CONFIGS_OF = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")


@pytest.fixture(scope="module")
def int8_weights(tiny_checkpoint, tmp_path_factory):
    """The transformer alone."""
    return converted(
        tmp_path_factory.mktemp("int8"), CONFIGS_OF, tiny_checkpoint, components=("dit",), dtype="int8", lora_alpha=64.0
    )


def models(weights, **machine) -> Models:
    trunk = CONFIGS_OF.dit.trunk
    options = Machine(dtype="float32", **machine)
    heads = dict(heads=trunk.num_heads, head_dim=trunk.head_dim, rows=2)
    return Models(
        COMPONENTS,
        Weights(weights=str(weights)),
        options,
        dtypes=dict.fromkeys(COMPONENTS, "float32"),
        denoiser="dit",
        **heads,
    )


def memory(module) -> dict[str, str]:
    return {path: leaf.sharding.memory_kind for path, leaf in tree.parameters(module).items()}


def test_int8_stays_int8_and_the_last_blocks_in_host_memory(int8_weights):
    whole, model = models(int8_weights)["dit"], models(int8_weights, resident_blocks=2)["dit"]
    values = tree.parameters(model)
    on_host = {path for path, kind in memory(model).items() if kind == "pinned_host"}
    assert {path.split("/")[1] for path in on_host if path.startswith("blocks/")} == {"2", "3"}
    assert "blocks/3/ffn/linear_in/kernel" in on_host and "blocks/3/ffn/linear_in/scale" not in on_host
    assert values["blocks/3/ffn/linear_in/kernel"].dtype == np.int8
    assert values["blocks/3/ffn/linear_in/scale"].dtype == values["patch_embedding/kernel"].dtype == np.float32
    for path, value in tree.parameters(whole).items():
        np.testing.assert_array_equal(value, values[path])


def test_while_a_model_waits_its_streamed_blocks_do_not_move(int8_weights):
    """`--offload_model` with `--resident_blocks`."""
    model = models(int8_weights, resident_blocks=2)["dit"]
    before = memory(model)
    away = to_host(model)
    assert set(memory(away).values()) == {"pinned_host"}
    with resident(away, offload=True) as copy:
        assert memory(copy) == before
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(away))


def test_products_of_int8_need_int8(tiny_weights, int8_weights):
    kinds = {
        run.stages[0].layers.ffn.linear_in.products for run in models(int8_weights, int8_products=True)["dit"].runs
    }
    assert kinds == {"int8"}
    with pytest.raises(UserError, match="--int8_products true: .* is not int8; convert with --dtype int8"):
        models(tiny_weights, int8_products=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_stream_has_the_dtype_that_was_asked_for(tiny_weights, dtype):
    assert models(tiny_weights, residual_dtype=dtype)["dit"].residual_dtype == dtype


def test_blocks_are_counted():
    with pytest.raises(UserError, match="--resident_blocks -1"):
        dataclasses.replace(Machine(), resident_blocks=-1)
