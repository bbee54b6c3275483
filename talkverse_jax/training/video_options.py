"""Which videos are trained on, and what of them makes a sample: options of training and of preparing. Imports no
JAX."""

import dataclasses
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.media.buckets import BUCKETS


@dataclasses.dataclass(frozen=True)
class VideoOptions:
    """A data set of videos."""

    dataset_metadata_path: tuple[str, ...] = option(
        "CSV files with video_path, caption, fps, scenes (docs/data.md)", group="input", metavar="FILE", default=()
    )
    dataset_base_path: tuple[str, ...] = option(
        "folder from which the paths in the CSV start; or one for each CSV file",
        group="input",
        metavar="DIR",
        default=("data",),
    )
    enable_roi_loss: bool = option(
        "give face and body more weight in the loss, by masks from boxes", group="input", default=False
    )
    roi_dir: str | None = option(
        "folder of the keypoint files, npz (default: beside the videos)",
        group="input",
        metavar="DIR",
        default=None,
    )
    roi_detector: str | None = option(
        "finds faces where there is no keypoint file: module:function", group="input", metavar="NAME", default=None
    )
    size_bucket: str = option(
        "table of sizes, such as fasttalk-480; each video takes the one closest to its shape",
        group="input",
        metavar="NAME",
        default="fasttalk-480",
        lowers_memory=(6, "(smaller sizes)"),
    )
    num_frames: int = option(
        "frames of a window that the model learns, a multiple of 4",
        group="input",
        metavar="N",
        default=120,
        lowers_memory=(7, "(fewer)"),
        least=1,
    )
    always_use_motion_frames: bool = option(
        "leave out videos that are too short for motion frames", group="input", default=False
    )
    max_skipped_share: float = option(
        "share of samples that may be unreadable; the run stops at more",
        group="input",
        metavar="X",
        default=0.05,
        least=0,
        most=1,
    )
    seed: int = option(
        "seed of windows, references and everything else that is random",
        group="input",
        metavar="N",
        default=0,
    )
    data_changed: Literal["stop", "go_on"] = option(
        "what to do where the data are not those that were begun with: stop, and tell what has changed; or go on, with "
        "what was not seen or made before",
        group="input",
        default="stop",
    )
    dry_run: bool = option(
        "tell what would be done and stop: samples by size, what is left out and why, steps, memory and time; with a "
        "page of samples as the model sees them, dry_run.png in the output folder",
        group="output",
        default=False,
    )
    num_workers: int = option(
        "processes that read videos; 0: threads of this process", group="machine", metavar="N", default=2, least=0
    )
    t5_cpu: bool = option("run the text encoder on the CPU", group="machine", default=False, lowers_memory=(3, "true"))

    def __post_init__(self):
        check_bounds(self)
        check_one_for_each(self, len(self.dataset_metadata_path), "dataset_base_path")
        if self.size_bucket not in BUCKETS:
            raise UserError(f"{self.size_bucket}: unknown; give one of {', '.join(BUCKETS)}", field="size_bucket")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"{self.seed}: give a number from 0 to below 2**31", field="seed")

    @property
    def bases(self) -> tuple[str, ...]:
        """The folder of each CSV file."""
        given = self.dataset_base_path
        return given if len(given) > 1 else given * len(self.dataset_metadata_path)


def check_one_for_each(options: Any, count: int, name: str) -> None:
    """Check that an option has a value for all data sets, or one for each.

    Args:
      count: of the data sets; 0 where none is given.

    Raises:
      UserError: it has another number of values.
    """
    found = len(getattr(options, name))
    if count and found not in (1, count):
        raise UserError(f"{found} values for {count} data sets; give one for each, or one for all", field=name)
