"""Prepared samples: named arrays, as a family's encoder makes them and shards hold them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped, UInt32

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import SampleId, WindowShape

FORMAT = 1  # of the files of shards


class PreparedSample(NamedTuple):
    """A sample as a training step takes it, but for what all samples share.

    Attributes:
      arrays: the family's own, by name.
      id, name, weight: as of `data.raw.RawSample`.
    """

    arrays: dict[str, Shaped[np.ndarray, "..."]]
    id: SampleId
    name: str
    weight: float


class PreparedBatch(NamedTuple):
    """Samples of one shape; arrays have them first."""

    arrays: dict[str, Shaped[np.ndarray, "B ..."]]
    ids: UInt32[np.ndarray, "B 2"]
    names: tuple[str, ...]
    weights: Float32[np.ndarray, " B"]


def stack(samples: Sequence[PreparedSample]) -> PreparedBatch:
    """A batch of samples."""
    arrays, ids, names, weights = zip(*samples)
    stacked = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return PreparedBatch(stacked, np.array(ids, np.uint32), names, np.array(weights, np.float32))


def unstack(batch: PreparedBatch) -> list[PreparedSample]:
    """The samples of a batch, one by one; those of weight 0 are left out."""
    return [
        PreparedSample(
            {name: array[row] for name, array in batch.arrays.items()},
            SampleId(*map(int, batch.ids[row])),
            batch.names[row],
            float(batch.weights[row]),
        )
        for row in np.flatnonzero(batch.weights)
    ]


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """What is known of an array of a sample before it is read.

    Attributes:
      shape, dtype: of the whole array.
      stored: whole; or without the rows at its end that are zero; or, in windows without motion frames, where all of
        it is zero, not at all.
    """

    shape: tuple[int, ...]
    dtype: Any
    stored: Literal["whole", "filled rows", "with motion"] = "whole"

    def pack(self, array: Shaped[np.ndarray, "..."], shape: WindowShape) -> Shaped[np.ndarray, "..."] | None:
        """What is stored of the array of a sample; None: nothing."""
        if self.stored == "with motion" and shape.kind == "short":
            return None
        if self.stored == "filled rows":
            filled = np.flatnonzero(array.reshape(len(array), -1).any(axis=-1))
            return array[: filled[-1] + 1 if len(filled) else 0]
        return array

    def unpack(self, stored: Shaped[np.ndarray, "..."] | None) -> Shaped[np.ndarray, "..."]:
        """The whole array.

        Raises:
          ValueError: it is of another shape.
        """
        if stored is None:
            stored = np.zeros((0, *self.shape[1:]), self.dtype)
        if missing := self.shape[0] - len(stored):
            stored = np.concatenate([stored, np.zeros((missing, *stored.shape[1:]), stored.dtype)])
        if stored.shape != self.shape:
            raise ValueError(f"an array is {stored.shape}, not {self.shape}")
        return stored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What samples were made with. A family adds a hash of the weights of each of its encoders, by name, and what else
    decides its samples.

    Attributes:
      size_bucket, num_frames, seed, windows, shard_size: as the flags.
      dtype: of latents and hidden states.
      roi: masks of face and body were made.
      samples: a hash of the videos and what is known of them.
      format: of the files.
    """

    size_bucket: str
    num_frames: int
    dtype: str
    roi: bool
    seed: int
    windows: int
    shard_size: int
    samples: str
    format: int = FORMAT


@dataclasses.dataclass(frozen=True)
class SampleFormat:
    """How a family's prepared samples are stored.

    Attributes:
      encoders: components that make the samples; the recipe has a hash of the weights of each, by name.
      constants: names of the arrays that all samples share; each is a file.
      recipe_type: a `Recipe`, or another frozen dataclass with its fields; written in their order.
      arrays: (configs of all components, recipe, shape) -> the arrays of a sample of that shape, in the order in
        which they are written. A function of a module: it is sent to other processes.
    """

    encoders: tuple[str, ...]
    constants: tuple[str, ...]
    recipe_type: type
    arrays: Callable[[Any, Any, WindowShape], dict[str, StoredArray]]

    def require(self, recipe: Any, folder: str | Path, **wanted: Any) -> None:
        """Make sure that the recipe of a folder has these values.

        Raises:
          UserError: one is another; the message names the first.
        """
        for name, value in wanted.items():
            have = getattr(recipe, name)
            if have == value:
                continue
            if name in self.encoders:
                raise UserError(f"{folder}: made with other weights of {name}; give those, or prepare anew")
            if name == "samples":
                raise UserError(f"{folder}: made from other videos; give those, or another --output")
            if name == "roi":
                made, hint = ("with", "give") if have else ("without", "leave out")
                raise UserError(
                    f"{folder}: made {made} masks of face and body; {hint} --enable_roi_loss, or prepare anew"
                )
            flag = name if name == "format" else f"--{name}"
            raise UserError(f"{folder}: made with {flag} {have}, not {value}; give {have}, or prepare anew")
