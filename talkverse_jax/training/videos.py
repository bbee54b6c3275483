"""A data set of videos, as `train.py` and `talkverse_jax.training.prepare` are given it: by flags, and opened."""

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_at_least, check_shares, option
from talkverse_jax.data.catalogue import Catalogue, Rules, describe, make_catalogue
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.windows import Lengths
from talkverse_jax.families.talkverse.alignment import AudioAlignment
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.media.buckets import BUCKETS
from talkverse_jax.sharding.distributed import barrier, is_main
from talkverse_jax.training.encode import SampleEncoder
from talkverse_jax.weights import store


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Which videos, and what of them makes a sample. A subclass has `weights`, and `dtype` of what is encoded."""

    dataset_metadata_path: tuple[str, ...] = option(
        "CSV files with video_path, caption, fps, scenes (docs/data.md)", group="input", metavar="FILE", default=()
    )
    dataset_base_path: str = option(
        "folder that the paths in the CSV start from", group="input", metavar="DIR", default="data"
    )
    enable_roi_loss: bool = option(
        "weigh face and body in the loss, by masks made of boxes", group="input", default=False
    )
    roi_dir: str | None = option(
        "folder of their keypoint files, npz (default: beside the videos)",
        group="input",
        metavar="DIR",
        default=None,
    )
    roi_detector: str | None = option(
        "finds faces where there is no keypoint file: module:function", group="input", metavar="NAME", default=None
    )
    size_bucket: str = option(
        f"table of sizes ({', '.join(BUCKETS)}); each video takes the closest to its shape",
        group="input",
        metavar="NAME",
        default="fasttalk-480",
    )
    num_frames: int = option(
        "frames to be learnt of a window, a multiple of 4", group="input", metavar="N", default=120
    )
    always_use_motion_frames: bool = option(
        "leave out videos that are too short for motion frames", group="input", default=False
    )
    audio_alignment: AudioAlignment = option(
        "exact: every frame is given its own sound; upstream: short windows hear 3 frames ahead, as originally",
        group="input",
        default="exact",
    )
    max_skipped_share: float = option(
        "share of samples that may be unreadable before the run stops", group="input", metavar="X", default=0.05
    )
    seed: int = option(
        "of windows, references and all else that is random; one seed, one run",
        group="input",
        metavar="N",
        default=0,
    )
    num_workers: int = option(
        "processes that read videos; 0: threads of this one", group="machine", metavar="N", default=2
    )
    t5_cpu: bool = option("run the text encoder on the CPU", group="machine", default=False)

    def check_videos(self) -> None:
        """Every check that needs no model and no data.

        Raises:
          UserError: a flag's value cannot be used.
        """
        check_at_least(self, num_workers=0)
        check_shares(self, "max_skipped_share")
        if self.num_frames < 4 or self.num_frames % 4:
            raise UserError(f"--num_frames {self.num_frames}: a latent frame holds 4 frames; give a multiple of 4")
        if self.size_bucket not in BUCKETS:
            raise UserError(f"--size_bucket {self.size_bucket}: unknown; give one of {', '.join(BUCKETS)}")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed {self.seed}: give a number from 0 to below 2**31")

    def encoder(self) -> SampleEncoder:
        """What turns samples into what a step takes."""
        return SampleEncoder.load(
            self.weights, alignment=self.audio_alignment, dtype=self.dtype, text_on_cpu=self.t5_cpu
        )


def open_videos(
    options: VideoOptions, motion_frames: int, cache: Path, skipped: Skipped
) -> tuple[Catalogue, RawSource]:
    """Look at all videos; every process of a run comes here.

    Args:
      motion_frames: before the frames to be learnt.
      cache: see `make_catalogue`.

    Raises:
      UserError: the metadata cannot be used, too many videos cannot, or none is left.
    """
    vae = store.load_config(options.weights, COMPONENTS["vae"])
    rules = Rules(
        bucket=options.size_bucket,
        lengths=Lengths(options.num_frames, motion_frames, options.always_use_motion_frames, strides=vae.strides),
        roi=options.enable_roi_loss,
        detector=options.roi_detector or "",
        base=options.dataset_base_path,
        roi_dir=options.roi_dir or "",
    )
    return look_at(options.dataset_metadata_path, rules, options.seed, cache, skipped)


def look_at(
    metadata: Sequence[str], rules: Rules, seed: int, cache: Path, skipped: Skipped
) -> tuple[Catalogue, RawSource]:
    """The videos of metadata files that these rules let be used, and their samples; otherwise as `open_videos`."""
    rows = read_metadata(metadata, rules.base)
    show = partial(tqdm, total=len(rows), desc="videos", unit="video", dynamic_ncols=True, disable=not is_main())
    look = partial(make_catalogue, rows, rules, cache, progress=show)
    found = look() if is_main() else None
    barrier("catalogue", timeout=None)  # the others find what process 0 has seen, where they share the folder
    found = found or look()
    if is_main():
        print(describe(found), file=sys.stderr)
    skipped.rows(found.rejected, len(rows))
    if not found.entries:
        raise UserError(f"{', '.join(metadata)}: no video is left; see {skipped.path} for why")
    return found, RawSource.of(found, rules, seed)
