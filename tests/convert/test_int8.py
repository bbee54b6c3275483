"""Kernels that stay int8: out of a quantised file as they are, or rounded; read back so, or multiplied out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import manifest, orbax_io, store
from talkverse_jax.weights.asked import TrainedFile
from tests.convert.test_adapters import BASE, BRAIN, FAMILY, ORIGIN, SIZES, TRAINED, Sources
from tests.convert.test_families import Brain

INT8 = dataclasses.replace(BRAIN, int8=("base/*",))
QUANTISED = dataclasses.replace(
    FAMILY, components={"brain": INT8}, sources={"brain": dataclasses.replace(ORIGIN, whole_flag="brain_file")}
)
WHOLE = BASE | TRAINED
MAP = {"base": {"weights": "qint8", "activations": "none"}}
DATA = np.random.default_rng(5).integers(-127, 128, BASE["base.weight"].shape, np.int8)
SCALE = np.linspace(0.01, 0.06, len(DATA), dtype=np.float32)[:, None]


class Scaled(Brain):
    """The first layer computes with int8."""

    def __init__(self, config, **how):
        super().__init__(config, **how)
        self.base.kernel.set_value(jnp.zeros((config.width, config.width), jnp.int8))
        scale = nnx.Param(jnp.zeros(config.width, jnp.float32))
        self.base.scale = scale  # pyright: ignore[reportAttributeAccessIssue]  # as a layer made for int8 has it


def _quantised(folder: Path, **changed) -> str:
    """A file as quanto writes it, and its map beside it."""
    tensors = {name: value for name, value in WHOLE.items() if name != "base.weight"}
    tensors |= {"base.weight._data": DATA, "base.weight._scale": SCALE, "base.input_scale": np.ones((), np.float32)}
    path = folder / "q.safetensors"
    save_file({name: value for name, value in (tensors | changed).items() if value is not None}, path)
    (folder / "map.json").write_text(json.dumps(MAP))
    return str(path)


def _convert(folder: Path, sources: Sources, dtype: Any = "int8", **options) -> dict[str, jax.ShapeDtypeStruct]:
    asked = ConvertOptions(output=str(folder / "w"), dtype=dtype, components=("brain",), **options)
    convert(QUANTISED, asked, sources, SIZES)
    return orbax_io.shapes(folder / "w" / "brain" / store.PARAMETERS)


def _parameters(folder: Path, component=INT8, **how) -> tree.Flat:
    return tree.parameters(store.load_module(folder / "w", component, **how))


def test_a_quantised_file_stays_as_it_is(tmp_path):
    stored = _convert(tmp_path, Sources(brain_file=_quantised(tmp_path)))
    assert (stored["base/kernel"].dtype, stored["base/scale"].dtype) == (np.int8, np.float32)
    assert stored["ears/kernel"].dtype == np.float32 and "ears/scale" not in stored
    assert manifest.read(tmp_path / "w")["brain"].dtype == "int8" and store.is_int8(tmp_path / "w", INT8)
    scaled = _parameters(tmp_path, dataclasses.replace(INT8, model_type=Scaled), dtype="bfloat16")
    np.testing.assert_array_equal(scaled["base/kernel"], DATA.T)
    np.testing.assert_array_equal(scaled["base/scale"], SCALE[:, 0])
    assert scaled["base/scale"].dtype == np.float32 and scaled["ears/kernel"].dtype == jnp.bfloat16
    plain = _parameters(tmp_path)
    assert plain["base/kernel"].dtype == np.float32
    np.testing.assert_array_equal(plain["base/kernel"], (DATA * SCALE).T)
    assert _parameters(tmp_path, dtype="bfloat16")["base/kernel"].dtype == jnp.bfloat16


def test_the_same_file_multiplied_out(tmp_path):
    stored = _convert(tmp_path, Sources(brain_file=_quantised(tmp_path)), "float32")
    assert stored["base/kernel"].dtype == np.float32 and "base/scale" not in stored
    np.testing.assert_array_equal(_parameters(tmp_path)["base/kernel"], (DATA * SCALE).T)


def test_float_kernels_are_rounded_with_what_is_added(tmp_path):
    save_file(WHOLE, tmp_path / "whole.safetensors")
    up, down = np.full((6, 2), 0.5, np.float32), np.ones((2, 6), np.float32)
    pair = {"diffusion_model.base.lora_up.weight": up, "diffusion_model.base.lora_down.weight": down}
    save_file(pair, tmp_path / "l.safetensors")
    sources = Sources(brain_file=str(tmp_path / "whole.safetensors"), lora_ckpt=(str(tmp_path / "l.safetensors"),))
    _convert(tmp_path, sources)
    kernel = (WHOLE["base.weight"] + up @ down).T
    found = _parameters(tmp_path, dataclasses.replace(INT8, model_type=Scaled))
    scale = np.abs(kernel).max(axis=0) / 127
    np.testing.assert_allclose(found["base/scale"], scale, rtol=1e-6)
    assert np.abs(np.asarray(found["base/kernel"])).max(axis=0).tolist() == [127] * 6
    np.testing.assert_allclose(_parameters(tmp_path)["base/kernel"], kernel, atol=0.51 * scale.max())


def test_an_output_without_weights_is_zero(tmp_path):
    whole = WHOLE | {"base.weight": np.zeros_like(WHOLE["base.weight"])}
    save_file(whole, tmp_path / "whole.safetensors")
    _convert(tmp_path, Sources(brain_file=str(tmp_path / "whole.safetensors")))
    np.testing.assert_array_equal(_parameters(tmp_path)["base/kernel"], 0)


def test_what_cannot_be_added_to(tmp_path):
    lora = tmp_path / "l.safetensors"
    save_file(
        {"base.lora_A.weight": np.ones((1, 6), np.float32), "base.lora_B.weight": np.ones((6, 1), np.float32)}, lora
    )
    sources = Sources(brain_file=_quantised(tmp_path), lora_ckpt=(str(lora),))
    with pytest.raises(UserError, match=r"--dtype int8: .*base.weight is int8, to which nothing can be added; give"):
        _convert(tmp_path, sources)
    with pytest.raises(UserError, match="--dtype int8: nothing can be added to it later; leave out --lora_merge false"):
        _convert(tmp_path, sources, lora_merge=False)
    _convert(tmp_path, Sources(brain_file=_quantised(tmp_path)))
    with pytest.raises(UserError, match="l.safetensors: cannot be laid over .*, which is int8; convert the weights"):
        store.check_trained(tmp_path / "w", INT8, [TrainedFile(lora)])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"base.bias": None}, "missing in the files (the model needs it): 1\n    base.bias"),
        ({"base.weight._scale": None}, "base has no scale of floats; download the file again"),
        ({"base.weight._data": DATA.astype(np.float32)}, "base is float32, qint8 by the map; give the map of this"),
    ],
)
def test_an_incomplete_file(tmp_path, changed, message):
    with pytest.raises(UserError) as error:
        _convert(tmp_path, Sources(brain_file=_quantised(tmp_path, **changed)))
    assert message in str(error.value)


def test_a_map_without_its_file_and_a_file_without_its_map(tmp_path):
    path = _quantised(tmp_path)
    with pytest.raises(UserError, match="map.json: is a map or an index without tensors; give the .safetensors file"):
        _convert(tmp_path, Sources(brain_file=str(tmp_path / "map.json")))
    (tmp_path / "map.json").unlink()
    with pytest.raises(UserError, match="is quantised by quanto .*and no map of just these lies beside it; put its"):
        _convert(tmp_path, Sources(brain_file=path))
    with pytest.raises(UserError, match="--brain_file .*: holds the adapter too; leave out /ears"):
        _convert(tmp_path, Sources(brain_file=path, ears_dir="/ears"))


def test_damage_is_found(tmp_path):
    _convert(tmp_path, Sources(brain_file=_quantised(tmp_path)))
    assert store.look_over(tmp_path / "w", verify=True) == ()
    [*_, largest] = sorted((tmp_path / "w" / "brain").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match="so brain is damaged"):
        store.look_over(tmp_path / "w", verify=True)
