"""Wan's names in diffusers' files, over the lists of names of whole models."""

import pytest

from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.models.wan.diffusers_names import to_diffusers, to_published

NAMES = tuple(COMPONENTS["dit"].torch_shapes(TalkVerseConfig.talkverse_5b()))
TRUNK = [name for name in NAMES if name.startswith(("blocks.", "text_", "time_", "patch_", "head."))]


def test_the_names_of_a_whole_model_go_there_and_back():
    there = [to_diffusers(name) for name in NAMES]
    assert len(set(there)) == len(NAMES) == 976
    assert [to_published(name) for name in there] == list(NAMES)
    assert [to_published(name) for name in NAMES] == list(NAMES)  # published names stay
    assert {name for name in TRUNK if to_diffusers(name) == name} == {"patch_embedding.weight", "patch_embedding.bias"}
    assert [name for name in NAMES if name not in TRUNK and to_diffusers(name) != name] == []  # TalkVerse's own


def test_no_two_layers_are_alike_with_underscores_for_dots():
    """So that a name of kohya's is one layer's."""
    layers = {name.rpartition(".")[0] for name in NAMES}
    assert len({layer.replace(".", "_") for layer in layers}) == len(layers)


@pytest.mark.parametrize(
    "published, diffusers",
    [
        ("blocks.12.self_attn.o", "blocks.12.attn1.to_out.0"),
        ("blocks.0.self_attn.norm_q.weight", "blocks.0.attn1.norm_q.weight"),
        ("blocks.0.cross_attn.norm_k_img.weight", "blocks.0.attn2.norm_added_k.weight"),
        ("blocks.3.cross_attn.k_img.bias", "blocks.3.attn2.add_k_proj.bias"),
        ("blocks.3.norm3.bias", "blocks.3.norm2.bias"),
        ("blocks.29.ffn.0.lora_A.weight", "blocks.29.ffn.net.0.proj.lora_A.weight"),
        ("blocks.29.modulation", "blocks.29.scale_shift_table"),
        ("time_projection.1.weight", "condition_embedder.time_proj.weight"),
        ("img_emb.proj.4.weight", "condition_embedder.image_embedder.norm2.weight"),
        ("head.head.weight", "proj_out.weight"),
        ("head.modulation", "scale_shift_table"),
        ("patch_embedding.weight", "patch_embedding.weight"),
    ],
)
def test_a_name_both_ways(published, diffusers):
    assert (to_diffusers(published), to_published(diffusers)) == (diffusers, published)
