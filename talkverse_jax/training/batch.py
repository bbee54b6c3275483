"""What a training step is given: windows of video, encoded.

Shapes: B samples, F latent frames of the target, h w latent grid, C latent channels, A audio width.
"""

from typing import NamedTuple

from jaxtyping import Array, Float, UInt


class TrainingBatch(NamedTuple):
    """Encoded windows of one size and kind. All but `null_text` have the samples first.

    Attributes:
      target: normalised latents of the frames to be learnt.
      motion: of the 73 frames before them; zeros in a window without motion context.
      reference: of one picture of the same video.
      audio: wav2vec2 hidden states, four rows (frames) a latent frame of the target.
      text: hidden states of the caption, zero behind its end.
      null_text: those of the empty caption, which takes its place where text is dropped.
      face, body: 1 where the loss counts more, 0 elsewhere.
      weight: of a sample in the loss; 0 where there is none.
      ids: epoch and sample number, of which everything random is a function.
    """

    target: Float[Array, "B F h w C"]
    motion: Float[Array, "B 19 h w C"]
    reference: Float[Array, "B 1 h w C"]
    audio: Float[Array, "B 4F layers A"]
    text: Float[Array, "B text_len text_dim"]
    null_text: Float[Array, "text_len text_dim"]
    face: UInt[Array, "B F h w"]
    body: UInt[Array, "B F h w"]
    weight: Float[Array, " B"]
    ids: UInt[Array, "B 2"]
