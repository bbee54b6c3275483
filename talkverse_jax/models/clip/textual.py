"""The tensors of CLIP's tower for text, XLM-RoBERTa, which lie in the file of the visual one."""

from typing import NamedTuple

_MLP_RATIO = 4


class TextualSizes(NamedTuple):
    """Width, blocks, token ids, positions."""

    dim: int
    layers: int
    vocab: int
    positions: int


XLM_ROBERTA_LARGE = TextualSizes(dim=1024, layers=24, vocab=250_002, positions=514)


def shapes(sizes: TextualSizes, joint: int) -> dict[str, tuple[int, ...]]:
    """By published name.

    Args:
      joint: channels in which texts and pictures are compared.
    """
    dim = sizes.dim
    middle = (dim + joint) // 2
    return {
        "textual.token_embedding.weight": (sizes.vocab, dim),
        "textual.type_embedding.weight": (1, dim),
        "textual.pos_embedding.weight": (sizes.positions, dim),
        **_norm("textual.norm", dim),
        **{name: shape for i in range(sizes.layers) for name, shape in _block(f"textual.blocks.{i}", dim).items()},
        "textual.head.0.weight": (middle, dim),
        "textual.head.2.weight": (joint, middle),
    }


def _block(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    found = {}
    for part in "qkvo":
        found |= _linear(f"{name}.attn.{part}", dim, dim)
    return {
        **found,
        **_norm(f"{name}.norm1", dim),
        **_linear(f"{name}.ffn.0", dim, _MLP_RATIO * dim),
        **_linear(f"{name}.ffn.2", _MLP_RATIO * dim, dim),
        **_norm(f"{name}.norm2", dim),
    }


def _linear(name: str, dim: int, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, dim), f"{name}.bias": (out,)}


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
