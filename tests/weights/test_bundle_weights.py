"""The LoRA tensors of a bundle, merged into its weights as the program that wrote it does."""

import json

import numpy as np
from safetensors.numpy import save_file

from talkverse_jax.families.talkverse.published import SOURCES
from talkverse_jax.weights.bundle import Bundle
from talkverse_jax.weights.bundle_weights import bundle_weights
from tests.tiny import TINY
from tests.weights.dialects import DIT, SIZES, normal

Q, NORM = "blocks.0.self_attn.q", "blocks.0.self_attn.norm_q"


def test_pairs_and_differences_by_one_scale_whatever_their_alpha(tmp_path):
    weights = {name: normal(name, *shape) for name, shape in SIZES.items()}
    down, up = normal("down", 4, SIZES[f"{Q}.weight"][1]), normal("up", SIZES[f"{Q}.weight"][0], 4)
    bias, norm = normal("bias", *SIZES[f"{Q}.bias"]), normal("norm", *SIZES[f"{NORM}.weight"])
    lora = {
        f"diffusion_model.{Q}.lora_down.weight": down,
        f"diffusion_model.{Q}.lora_up.weight": up,
        f"diffusion_model.{Q}.alpha": np.array([2], np.float32),
        f"diffusion_model.{Q}.diff_b": bias,
        f"diffusion_model.{NORM}.diff": norm,
        "transformer.blocks.0.ffn.0.lora_A.weight": down,  # that program skips it
    }
    tensors = {f"weights/{name}": value for name, value in weights.items()}
    tensors |= {f"lora/{name}": value for name, value in lora.items()}
    meta = {"component": "dit", "config": {}, "lora": {"scale": 0.8}}
    save_file(tensors, tmp_path / "b.safetensors", {"bundle": json.dumps(meta)})
    found, where = bundle_weights(Bundle(tmp_path / "b.safetensors"), DIT, TINY, SOURCES["dit"], dict)
    wanted = {
        f"{Q}.weight": weights[f"{Q}.weight"] + np.float32(0.8) * (up @ down),
        f"{Q}.bias": weights[f"{Q}.bias"] + np.float32(0.8) * bias,
        f"{NORM}.weight": weights[f"{NORM}.weight"] + np.float32(0.8) * norm,
    }
    assert found.keys() == weights.keys() and where.endswith("b.safetensors")
    for name, value in (weights | wanted).items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
