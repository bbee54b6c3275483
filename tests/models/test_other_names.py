"""The names that other programs have for the models' tensors.

The VAEs' were compared with diffusers' own script, `convert_wan_to_diffusers.py` of 2026-08-23: all 196 names of Wan2.2
and all 194 of Wan2.1 are the same. The toy's VAE, written under these names, loaded strictly into `AutoencoderKLWan`
and gave the same video to 3.7e-6 (of 1.0) and the same latents to 5.0e-5 (of 3.0); its text encoder in
`UMT5EncoderModel` the same states to 4.4e-6 (of 3.3). (2026-11-27, float32 on a CPU.)
"""

import functools
from collections.abc import Callable

import pytest

from talkverse_jax.core import tree
from talkverse_jax.models.umt5.component import umt5
from talkverse_jax.models.vae.component import vae21, vae22
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.rule import find_rule


@functools.cache
def _names(make: Callable[[], Component]) -> list[tuple[str, ...]]:
    component = make()
    paths = tree.abstract_parameters(component.abstract(component.real_size()))
    return [find_rule(component.rules, path)[1] for path in paths]


@pytest.mark.parametrize("component, count", [(vae22, 196), (vae21, 194), (umt5, 242)])
def test_no_two_tensors_have_one_name(component, count):
    tables = _names(component)
    assert len(tables) == count
    assert len({name for names in tables for name in names}) == sum(len({*names}) for names in tables)


@pytest.mark.parametrize(
    "component, published, others",
    [
        (vae22, "conv1.weight", ["quant_conv.weight"]),
        (vae22, "encoder.conv1.bias", ["encoder.conv_in.bias"]),
        (
            vae22,
            "encoder.downsamples.1.downsamples.2.time_conv.weight",
            ["encoder.down_blocks.1.downsampler.time_conv.weight"],
        ),
        (
            vae22,
            "decoder.upsamples.2.upsamples.0.shortcut.weight",
            ["decoder.up_blocks.2.resnets.0.conv_shortcut.weight"],
        ),
        (vae22, "decoder.middle.2.residual.3.gamma", ["decoder.mid_block.resnets.1.norm2.gamma"]),
        (vae22, "decoder.middle.1.to_qkv.weight", ["decoder.mid_block.attentions.0.to_qkv.weight"]),
        (vae21, "encoder.downsamples.5.resample.1.weight", ["encoder.down_blocks.5.resample.1.weight"]),
        (vae21, "decoder.upsamples.7.time_conv.weight", ["decoder.up_blocks.1.upsamplers.0.time_conv.weight"]),
        (vae21, "decoder.upsamples.8.residual.6.bias", ["decoder.up_blocks.2.resnets.0.conv2.bias"]),
        (
            umt5,
            "blocks.23.ffn.fc1.weight",
            ["encoder.block.23.layer.1.DenseReluDense.wi_1.weight", "enc.blk.23.ffn_up.weight"],
        ),
        (
            umt5,
            "blocks.2.pos_embedding.embedding.weight",
            ["encoder.block.2.layer.0.SelfAttention.relative_attention_bias.weight", "enc.blk.2.attn_rel_b.weight"],
        ),
    ],
)
def test_a_name(component, published, others):
    assert dict((names[0], [*names[1:]]) for names in _names(component))[published] == others
