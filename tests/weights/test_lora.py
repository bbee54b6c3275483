import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import lora
from talkverse_jax.weights.rule import CONV1D, LINEAR, Rule

RULES = (
    Rule("layers/*/kernel", "layers.*.weight", LINEAR),
    Rule("layers/*/bias", "layers.*.bias"),
    Rule("conv/kernel", "conv.weight", CONV1D),
)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def _parameters(dtype=jnp.float32) -> dict[str, jax.Array]:
    arrays = {"layers/0/kernel": _normal(6, 4), "layers/1/kernel": _normal(4, 6), "layers/0/bias": _normal(4)}
    return {name: jnp.asarray(value, dtype) for name, value in (arrays | {"conv/kernel": _normal(3, 4, 5)}).items()}


def _file(tmp_path, **changes) -> str:
    """A trained file: a pair of rank 2 for layer 0, and layer 1 whole; a change to None drops a tensor."""
    tensors = {
        "layers.0.lora_A.weight": _normal(2, 6),
        "layers.0.lora_B.weight": _normal(4, 2),
        "layers.1.weight": _normal(6, 4) + 1,
    } | {name.replace("__", "."): value for name, value in changes.items()}
    path = tmp_path / "trained.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}, path)
    return str(path)


def laid_over(parameters, path, rank, alpha):
    """A copy of the parameters with the file laid over them."""
    after = dict(parameters)
    lora.lay_over(after, lora.TrainedFile(path, rank, alpha), RULES)
    return after


def test_a_trained_file_replaces_and_adds(tmp_path):
    before = _parameters()
    after = laid_over(before, _file(tmp_path), 2, 3.0)
    delta = 1.5 * _normal(4, 2) @ _normal(2, 6)
    np.testing.assert_allclose(after["layers/0/kernel"], before["layers/0/kernel"] + delta.T, rtol=1e-6)
    np.testing.assert_array_equal(after["layers/1/kernel"], _normal(6, 4).T + 1)
    assert after["layers/0/bias"] is before["layers/0/bias"]


def test_a_leading_model_is_dropped(tmp_path):
    plain = _file(tmp_path)
    wanted = laid_over(_parameters(), plain, 2, 2.0)
    tensors = {f"model.{name}": value for name, value in lora.read_file(plain).tensors.items()}
    save_file({name: np.array(value) for name, value in tensors.items()}, tmp_path / "model.safetensors")
    found = laid_over(_parameters(), tmp_path / "model.safetensors", 2, 2.0)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_sum_is_in_float32_and_keeps_dtype_and_sharding(tmp_path):
    before = _parameters(jnp.bfloat16)
    after = laid_over(before, _file(tmp_path), 2, 2.0)
    exact = np.asarray(before["layers/0/kernel"], np.float32) + (_normal(4, 2) @ _normal(2, 6)).T
    np.testing.assert_array_equal(after["layers/0/kernel"], exact.astype(ml_dtypes.bfloat16))
    for name in before:
        assert (after[name].dtype, after[name].sharding) == (before[name].dtype, before[name].sharding)


@pytest.mark.parametrize(
    "changes, rank, message",
    [
        (dict(layers__0__lora_B__weight=None), 2, "layers.0 has lora_A but no lora_B"),
        (dict(layers__0__lora_A__weight=None), 2, "layers.0 has lora_B but no lora_A"),
        (dict(), 128, r"pairs of rank 2 \(layers\.0\); pass --lora_rank 2"),
        (
            dict(layers__7__lora_A__weight=_normal(2, 6), layers__7__lora_B__weight=_normal(4, 2)),
            2,
            "LoRA pair for layers.7, a layer the model lacks",
        ),
        (
            dict(layers__0__lora_A__weight=_normal(2, 5)),
            2,
            r"pair of layers.0 is for \[4, 5\], the model's is \[4, 6\]",
        ),
        (
            dict(conv__lora_A__weight=_normal(2, 4), conv__lora_B__weight=_normal(5, 2)),
            2,
            r"pair of conv is for \[5, 4\], the model's is \[5, 4, 3\]",
        ),
        (dict(other=_normal(3)), 2, "holds other, which the model lacks"),
        (dict(layers__1__weight=_normal(3, 3)), 2, r"layers.1.weight is \[3, 3\], not \[6, 4\]"),
        (dict(model__layers__1__weight=_normal(6, 4)), 2, "a name both with and without `model.`"),
    ],
)
def test_what_does_not_fit(tmp_path, changes, rank, message):
    with pytest.raises(UserError, match=rf"trained\.safetensors:? .*{message}"):
        laid_over(_parameters(), _file(tmp_path, **changes), rank, 2.0)


def test_split_and_join(tmp_path):
    tensors = lora.read_file(_file(tmp_path)).tensors
    whole, pairs = lora.split(tensors, "x")
    assert lora.join(pairs).keys() | whole.keys() == tensors.keys()
