"""Quantised formats that are not read are refused by name, and what lies beside weights is passed over by name."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.quantised import plain

E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
PATH = Path("q.safetensors")
LAYER = "blocks.0.q"
REFUSED = {
    "int8 without a map": (
        {f"{LAYER}.weight": np.int8, f"{LAYER}.weight_scale": np.float32},
        f"{LAYER}.weight_scale scales int8, which is not read without a map",
    ),
    "MXFP8": (
        {f"{LAYER}.weight": E4M3, f"{LAYER}.weight_scale": np.uint8},
        f"{LAYER}.weight_scale is of uint8: MXFP8, which is not read",
    ),
    "NVFP4": (
        {f"{LAYER}.weight": np.uint8, f"{LAYER}.weight_scale": E4M3, f"{LAYER}.weight_scale_2": np.float32},
        f"is quantised by NVFP4 ({LAYER}.weight_scale_2), which is not read",
    ),
    "bitsandbytes, 4 bits": (
        {f"{LAYER}.weight.quant_state.bitsandbytes__nf4": np.uint8},
        f"is quantised by bitsandbytes ({LAYER}.weight.quant_state.bitsandbytes__nf4), which is not read",
    ),
    "bitsandbytes, 8 bits": ({f"{LAYER}.SCB": np.float32}, f"is quantised by bitsandbytes (8 bits) ({LAYER}.SCB)"),
    "a scale a block": (
        {f"{LAYER}.weight_scale_inv": np.float32},
        f"is quantised by fp8 with a scale for each block ({LAYER}.weight_scale_inv), which is not read",
    ),
    "GPTQ": ({f"{LAYER}.qweight": np.int32}, f"is quantised by GPTQ, AWQ or SVDQuant ({LAYER}.qweight)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_are_refused_by_name(kind):
    dtypes, message = REFUSED[kind]
    with pytest.raises(UserError) as error:
        plain({name: np.ones((4, 4), dtype) for name, dtype in dtypes.items()}, {}, PATH)
    assert str(error.value).startswith(f"q.safetensors: {message}")
    assert str(error.value).endswith("; give the model in bfloat16, float16, float32, fp8 or GGUF")


@pytest.mark.parametrize(
    "told, kind",
    [
        ('{"format": "nvfp4"}', "nvfp4"),
        ('{"format": "int8_tensorwise"}', "int8_tensorwise"),
        ('{"format": "float8_e4m3fn", "convrot": true}', "float8_e4m3fn with rotated rows"),
        ("[", "an unknown format"),
        ("{}", "an unknown format"),
    ],
)
def test_formats_that_comfyui_names(told, kind):
    mark = {f"{LAYER}.weight": np.ones((4, 4), E4M3), f"{LAYER}.comfy_quant": np.frombuffer(told.encode(), np.uint8)}
    with pytest.raises(
        UserError, match=f"q.safetensors: {LAYER} is of {kind}, which is not read; give the model in bf"
    ):
        plain(mark, {}, PATH)
    if kind == "nvfp4":  # the same from the header
        metadata = {"_quantization_metadata": json.dumps({"layers": {f"model.{LAYER}": json.loads(told)}})}
        with pytest.raises(UserError, match=f"q.safetensors: model.{LAYER} is of nvfp4, which is not read"):
            plain({f"{LAYER}.weight": np.ones((4, 4), E4M3)}, metadata, PATH, "model.")


def test_a_scale_alone():
    with pytest.raises(UserError, match="q.safetensors: has a.scale_weight but not the weight that it scales"):
        plain({"a.scale_weight": np.float32(1)}, {}, PATH)


def test_a_scale_a_block():
    """Even where there are as many as rows."""
    tensors = {"a.weight": np.ones((4, 4), E4M3), "a.weight_scale": np.ones((2, 2), np.float32)}
    with pytest.raises(UserError, match=r"a.weight_scale is a scale of \[2, 2\] for \[4, 4\], a scale for each block"):
        plain(tensors, {}, PATH)


def test_what_is_passed_over_by_name():
    tensors = {
        "a.weight": np.full((2, 2), 3, E4M3),
        "a.scale_weight": np.float32(0.5),
        "a.scale_input": np.float32(7),
        "a.comfy_quant": np.frombuffer(b'{"format": "float8_e4m3fn"}', np.uint8),
        "a.bias": np.ones(2, np.float32),
        "scaled_fp8": np.zeros(2, E4M3),
    }
    found = plain(tensors, {}, PATH)
    assert found.tensors.keys() == {"a.weight", "a.bias"} and found.kind == "fp8 with scales (1)" and found.changed
    np.testing.assert_array_equal(np.asarray(found.tensors["a.weight"]), np.full((2, 2), 1.5, np.float32))
    assert not plain({"a.bias": np.ones(2, np.float32)}, {}, PATH).changed
