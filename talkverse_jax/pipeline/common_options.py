"""Options that families have in common, each with its check; a family's `settings.py` takes those that it needs.
Imports no JAX."""

from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.media.buckets import size_asked

_LEAST_AUDIO_WINDOW = 30  # seconds


def seed_option() -> Any:
    """`--base_seed`, which every family has."""
    return option(
        "seed; the same seed gives the same video, -1 draws one and prints it",
        group="sampling",
        metavar="N",
        default=-1,
        alias="seed",
        least=-1,
        most=2**32 - 1,
    )


def check_seed(settings: Any) -> None:
    """Raises UserError unless there is such a seed."""
    if not -1 <= settings.base_seed < 2**32:
        raise UserError(f"{settings.base_seed}: give -1 or a number below 2**32", field="base_seed")


def size_option() -> Any:
    """`--size`, beside `--size_bucket`; see `media.buckets.size_asked`."""
    return option(
        "one of --size_bucket's sizes; 1280x720, 720x1280, 1792x1024 and 1024x1792 stand for the one closest in shape; "
        "auto: the one closest to the picture's shape",
        group="video",
        metavar="WIDTHxHEIGHT",
        default="auto",
        decides=True,
    )


def check_size(settings: Any, exact: bool = False) -> None:
    """Raises UserError where the bucket has no such size.

    Args:
      exact: as of `media.buckets.sizes`.
    """
    size_asked(settings.size_bucket, settings.size, exact)


def seconds_option() -> Any:
    """`--seconds`; see `Timeline.ended`."""
    return option(
        "end the video here at the latest, on the next frame (25 a second); what is shown stays as it is (default: "
        "with the sound)",
        group="video",
        metavar="X",
        default=None,
        decides=True,
        above=0,
    )


def num_clip_option() -> Any:
    """`--num_clip`; see `Timeline.ended`."""
    return option(
        "most clips of the video (default: until the sound ends)",
        group="video",
        metavar="N",
        default=None,
        decides=True,
        least=1,
    )


def about_clips(settings: Any, clips: int) -> list[str]:
    """A line for the person where the sound has no more than these clips, and more were asked for."""
    if settings.seconds is not None or (settings.num_clip or 0) <= clips:
        return []
    return [f"num_clip {settings.num_clip}: the sound ends in clip {clips}; {clips} are made"]


def audio_window_option() -> Any:
    """`--audio_window`."""
    return option(
        f"a longer sound is encoded in overlapping windows of this many seconds ({_LEAST_AUDIO_WINDOW} or more); 0: in "
        "one pass, whose memory grows with the sound",
        group="video",
        metavar="N",
        default=60,
        decides=True,
    )


def check_audio_window(settings: Any) -> None:
    """Raises UserError where a window has no middle."""
    if settings.audio_window and settings.audio_window < _LEAST_AUDIO_WINDOW:
        raise UserError(
            f"{settings.audio_window}: give {_LEAST_AUDIO_WINDOW} seconds or more, or 0 for one pass",
            field="audio_window",
        )


def model_every_option() -> Any:
    """`--sample_model_every`; see `diffusion.sparing`."""
    return option(
        "of the steps in --sample_window, run the transformer in one of so many, and draw its result on in the others; "
        "2 saves a third of the work",
        group="sampling",
        metavar="N",
        default=1,
        decides=True,
        least=1,
    )


def guide_every_option() -> Any:
    """`--sample_guide_every`; likewise."""
    return option(
        "of the steps in --sample_window that run the transformer, run its unguided branch too in one of so many, and "
        "draw on in the others what guidance adds; 3 saves a fifth of the work",
        group="sampling",
        metavar="N",
        default=1,
        decides=True,
        least=1,
    )


def sample_window_option() -> Any:
    """`--sample_window`; likewise."""
    return option(
        "where --sample_model_every and --sample_guide_every hold: from and until which share of the steps",
        group="sampling",
        metavar="X",
        default=(0.2, 0.9),
        decides=True,
    )


def check_sample_window(settings: Any) -> None:
    """Raises UserError unless the window is one."""
    window = settings.sample_window
    if len(window) != 2 or not 0 <= window[0] <= window[1] <= 1:
        given = " ".join(map(str, window))
        raise UserError(f"{given}: give two shares, the first no larger, such as 0.2 0.9", field="sample_window")


def logit_normal_option() -> Any:
    """`--logit_normal`."""
    return option(
        "draw timesteps whose logit is normally distributed, of this mean and deviation, such as 0 1 (Stable Diffusion "
        "3); a mean above 0 is more noise (default: all timesteps alike)",
        group="loss",
        metavar="X",
        default=(),
    )


def check_logit_normal(settings: Any) -> None:
    """Raises UserError unless none is given, or a mean and a deviation."""
    if settings.logit_normal and (len(settings.logit_normal) != 2 or settings.logit_normal[1] <= 0):
        given = " ".join(map(str, settings.logit_normal))
        raise UserError(f"{given}: give a mean and a deviation above 0, such as 0 1", field="logit_normal")
    if settings.logit_normal and settings.timestep_shift != 1:
        raise UserError(f"{settings.timestep_shift}: leave it out beside --logit_normal", field="timestep_shift")


def timestep_shift_option() -> Any:
    """`--timestep_shift`."""
    return option(
        "how far timesteps, drawn evenly, are moved towards noise, as --sample_shift; before a distillation 5",
        group="loss",
        metavar="X",
        default=1.0,
        above=0,
    )


def temporal_loss_option() -> Any:
    """`--temporal_loss`."""
    return option(
        "how much it counts besides that a latent frame is wrong in another way than the one before it",
        group="loss",
        metavar="X",
        default=0.0,
        least=0,
    )


def vae_file_option() -> Any:
    """`--vae_file`, behind the option that names one file of the base model."""
    return option("likewise the VAE (vae)", group="from", metavar="FILE", default=None)


def tiny_decoder_file_option(name: str) -> Any:
    """`--tiny_decoder`, by the name of the published file."""
    return option(
        f"a tiny decoder for previews and live video: {name} of github.com/madebyollin/taehv, .pth or .safetensors, "
        "or what train-tiny-decoder wrote (tiny_decoder; optional)",
        group="from",
        metavar="FILE",
        default=None,
    )


def text_file_option() -> Any:
    """`--text_file`, likewise."""
    return option(
        "likewise UMT5-XXL (text); the tokenizer lies in it, beside it or in --ckpt_dir",
        group="from",
        metavar="FILE",
        default=None,
    )
