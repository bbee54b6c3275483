"""Which mesh axes a logical axis of an array is split over. The only file that names mesh axes for arrays.

Logical axes of activations:
  batch     videos and the two branches of guidance
  tokens    the sequence inside attention and feed-forward
  stream    the sequence between them, where `tensor` devices too hold a part each
  heads     attention heads, or the channels they make up
  hidden    channels inside a feed-forward or an embedding
  rows, columns   of pictures and latents, in the VAE, whose mesh and rules are made in pictures.py
Logical axes of parameters besides `heads` and `hidden`:
  width     the model's width: split while at rest, gathered where a layer is used
"""

import dataclasses

Axes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Mesh axes of each logical axis, the slowest-changing first."""

    batch: Axes
    tokens: Axes
    stream: Axes
    heads: Axes
    hidden: Axes
    width: Axes
    rows: Axes
    columns: Axes


# A sampled video is a batch of two at most: the devices of `fsdp` share its sequence.
SAMPLING = Rules(
    batch=("data",),
    tokens=("fsdp", "ring", "ulysses"),
    stream=("fsdp", "ring", "ulysses", "tensor"),
    heads=("tensor",),
    hidden=("tensor",),
    width=("fsdp",),
    rows=(),
    columns=(),
)

# The devices that share a sequence share the weights too, and with them gradients and the optimizer's state.
TRAINING = dataclasses.replace(
    SAMPLING,
    batch=("data", "fsdp"),
    tokens=("ring", "ulysses"),
    stream=("ring", "ulysses", "tensor"),
    width=("fsdp", "ring", "ulysses"),
)

# A video sampled between two updates, from weights that lie as they do in training.
PREVIEW = dataclasses.replace(SAMPLING, width=TRAINING.width)

_ALL = ("data", "fsdp", "ring", "ulysses", "tensor")

# An encoder works alone, before the transformer is loaded: all devices split its layers.
ENCODING = Rules(batch=(), tokens=(), stream=(), heads=_ALL, hidden=_ALL, width=_ALL, rows=(), columns=())
