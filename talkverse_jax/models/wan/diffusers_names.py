"""Wan's names in diffusers' files, and back: of layers (`blocks.0.self_attn.q`) and of tensors
(`blocks.0.self_attn.q.weight`). What has one name in both, such as `patch_embedding`, keeps it, and so do names that
are in the asked form already."""

import re
from collections.abc import Mapping

_ATTENTION = (
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
)
_IMAGE = (("k_img", "add_k_proj"), ("v_img", "add_v_proj"), ("norm_k_img", "norm_added_k"))  # image-to-video 2.1 only

# published, diffusers; `*` is a block's number
_TABLE: tuple[tuple[str, str], ...] = (
    *((f"blocks.*.self_attn.{ours}", f"blocks.*.attn1.{theirs}") for ours, theirs in _ATTENTION),
    *((f"blocks.*.cross_attn.{ours}", f"blocks.*.attn2.{theirs}") for ours, theirs in (*_ATTENTION, *_IMAGE)),
    ("blocks.*.norm3", "blocks.*.norm2"),
    ("blocks.*.ffn.0", "blocks.*.ffn.net.0.proj"),
    ("blocks.*.ffn.2", "blocks.*.ffn.net.2"),
    ("blocks.*.modulation", "blocks.*.scale_shift_table"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    ("head.head", "proj_out"),
    ("head.modulation", "scale_shift_table"),
)


_DIFFUSERS = dict(_TABLE)
_PUBLISHED = {theirs: ours for ours, theirs in _TABLE}


def to_diffusers(name: str) -> str:
    """The name in diffusers' files of a published one."""
    return _renamed(name, _DIFFUSERS)


def to_published(name: str) -> str:
    """The published name of one in diffusers' files."""
    return _renamed(name, _PUBLISHED)


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    """The name with the layer that it begins with renamed."""
    block = re.match(r"blocks\.(\d+)\.", name)
    parts = (f"blocks.*.{name[block.end() :]}" if block else name).split(".")
    for end in range(len(parts), 0, -1):
        layer = layers.get(".".join(parts[:end]))
        if layer is not None:
            renamed = ".".join((layer, *parts[end:]))
            return renamed.replace("*", block[1]) if block else renamed
    return name
