"""Which model turns a clip's latents into pictures: the VAE's own decoder, or a tiny one. Imports no JAX."""

from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option

DecoderName = Literal["full", "tiny"]
COMPONENTS: dict[DecoderName, str] = {"full": "vae", "tiny": "tiny_decoder"}


def decoder_option() -> Any:
    """`--decoder`."""
    return option(
        "what shows the clips: the VAE's own decoder, or the tiny one of the weights, less sharp at a two-hundredth of "
        "the work (docs/sampling.md)",
        group="video",
        default="full",
        decides=True,
    )


def check_decoder(decoder: DecoderName, config: Any, weights: str = "the model") -> None:
    """Make sure that there is such a decoder.

    Args:
      config: the sizes of the tiny one; None where there is none.
      weights: the folder, for the error.

    Raises:
      UserError: there is none.
    """
    if decoder == "tiny" and config is None:
        raise UserError(
            f"tiny: {weights} has no tiny decoder; add one by talkverse-jax convert --components tiny_decoder "
            "--tiny_decoder FILE, where FILE is a published one or what talkverse-jax train-tiny-decoder wrote",
            field="decoder",
        )
