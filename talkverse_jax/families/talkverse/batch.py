"""A batch of TalkVerse's training.

Shapes: B samples, F latent frames of the target, M of the motion context, h w latent grid, C latent channels,
A audio width.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, UInt

from talkverse_jax.data.prepared import PreparedBatch


class TrainingBatch(NamedTuple):
    """Encoded windows of one size and kind. All but `null_text` have the samples first.

    Attributes:
      target: normalised latents of the frames to be learnt.
      motion: of the 73 frames before them; zeros in a window without motion context.
      reference: of one picture of the same video.
      audio: wav2vec2 hidden states, a row a frame of the target.
      text: hidden states of the caption, zero behind its end.
      null_text: those of the empty caption, which takes its place where text is dropped.
      face, body: 1 where the loss counts more, 0 elsewhere.
      weight: of a sample in the loss; 0 where there is none.
      ids: epoch and sample number, of which everything random is a function.
    """

    target: Float[Array, "B F h w C"]
    motion: Float[Array, "B M h w C"]
    reference: Float[Array, "B 1 h w C"]
    audio: Float[Array, "B rows layers A"]
    text: Float[Array, "B text_len text_dim"]
    null_text: Float[Array, "text_len text_dim"]
    face: UInt[Array, "B F h w"]
    body: UInt[Array, "B F h w"]
    weight: Float[Array, " B"]
    ids: UInt[Array, "B 2"]


def to_batch(samples: PreparedBatch, constants: Mapping[str, Any]) -> TrainingBatch:
    """A batch of prepared samples as the loss takes it."""
    arrays: dict[str, Any] = samples.arrays
    return TrainingBatch(
        target=arrays["target"],
        motion=arrays["motion"],
        reference=arrays["reference"],
        audio=arrays["audio"],
        text=arrays["text"],
        null_text=constants["null_text"],
        face=arrays["face"],
        body=arrays["body"],
        weight=samples.weights,  # pyright: ignore[reportArgumentType]  # arrays that are put on devices later
        ids=samples.ids,  # pyright: ignore[reportArgumentType]  # as above
    )
