"""What training a tiny decoder can be told, whatever the family. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.media.buckets import BUCKETS

FILE = "tiny_decoder.safetensors"  # what is written, under the published names


@dataclasses.dataclass(frozen=True)
class DecoderOptions:
    """One run."""

    weights: str = option("folder of converted weights, whose VAE encodes", group="input", metavar="DIR")
    dataset_metadata_path: tuple[str, ...] = option(
        "CSV files with video_path (docs/data.md)", group="input", metavar="FILE"
    )
    dataset_base_path: str = option(
        "folder that the paths in the CSV start from", group="input", metavar="DIR", default="data"
    )
    size_bucket: str = option("table of sizes", group="input", metavar="NAME", default="fasttalk-480")
    model: str | None = option(
        "TOML file or preset of sizes; its table [tiny_decoder] (default: the published one)",
        group="input",
        metavar="FILE",
        default=None,
    )
    target: Literal["video", "vae"] = option(
        "what it learns to show: the video, or what the VAE shows of its latents", group="training", default="video"
    )
    num_frames: int = option(
        "frames of a window after its first, whole latent frames", group="training", metavar="N", default=16, least=4
    )
    crop: int = option(
        "rows and columns of a window, whole latents; 0: the whole picture",
        group="training",
        metavar="N",
        default=256,
        least=0,
    )
    batch_size: int = option("windows of an update", group="training", metavar="N", default=8, least=1)
    steps: int = option("updates", group="training", metavar="N", default=20000, least=1)
    learning_rate: float = option(
        "the highest; falls to 0 as a cosine", group="training", metavar="X", default=1e-3, above=0
    )
    warmup_steps: int = option("updates until it is whole", group="training", metavar="N", default=100, least=0)
    ema_decay: float = option(
        "decay of a running average of the parameters, which is what is written",
        group="training",
        metavar="X",
        default=0.995,
        above=0,
        most=0.999999,
    )
    seed: int = option("of everything random", group="training", metavar="N", default=0, least=0)
    dtype: Literal["bfloat16", "float32"] = option(
        "number type of the decoder's products", group="machine", default="float32"
    )
    num_workers: int = option(
        "processes that read videos; 0: threads of this process", group="machine", metavar="N", default=0, least=0
    )
    output_path: str = option(
        f"the run's folder, which gets {FILE}; a run that is there goes on",
        group="output",
        metavar="DIR",
        default="decoder_output",
    )
    save_steps: int = option("updates between checkpoints", group="output", metavar="N", default=500, least=1)
    held_out: str | None = option(
        "a CSV of other videos, on which the decoder is measured at the end (default: none)",
        group="output",
        metavar="FILE",
        default=None,
    )
    held_out_videos: int = option("of these, the first", group="output", metavar="N", default=20, least=1)

    def __post_init__(self):
        check_bounds(self)
        if not self.dataset_metadata_path:
            raise UserError("missing; give a CSV file of videos", field="dataset_metadata_path")
        if self.size_bucket not in BUCKETS:
            raise UserError(f"{self.size_bucket}: unknown; give one of {', '.join(BUCKETS)}", field="size_bucket")
        if self.warmup_steps >= self.steps:
            raise UserError(
                f"{self.warmup_steps}: the rate never gets whole in {self.steps} steps; give fewer",
                field="warmup_steps",
            )
