"""A data set of videos, opened."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.data.catalogue import Catalogue, VideoRules, describe, describe_notes, make_catalogue
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.pipeline.training import FamilyTraining
from talkverse_jax.sharding.distributed import barrier, is_main
from talkverse_jax.training.video_options import VideoOptions


def open_videos(
    options: VideoOptions,
    settings: Any,
    training: FamilyTraining,
    configs: Any,
    cache: Path,
    skipped: Skipped,
    reporter: Reporter,
) -> tuple[Catalogue, RawSource]:
    """Look at all videos; every process of a run comes here.

    Args:
      settings: the family's `WindowSettings`.
      configs: of the family's components.
      cache: see `make_catalogue`.

    Raises:
      UserError: the metadata cannot be used, too many videos cannot, or none is left.
    """
    rules = VideoRules(
        bucket=options.size_bucket,
        lengths=training.lengths(configs, settings, options.num_frames, options.always_use_motion_frames),
        roi=options.enable_roi_loss,
        detector=options.roi_detector or "",
        roi_dir=options.roi_dir or "",
    )
    return look_at(options.dataset_metadata_path, options.bases, rules, options.seed, cache, skipped, reporter)


def look_at(
    metadata: Sequence[str],
    base: str | Sequence[str],
    rules: VideoRules,
    seed: int,
    cache: Path,
    skipped: Skipped,
    reporter: Reporter,
) -> tuple[Catalogue, RawSource]:
    """The videos of metadata files that these rules let be used, and their samples; otherwise as `open_videos`.

    Args:
      base: the folder that the paths start from; or one for each file.
    """
    told = reporter if is_main() else SILENT
    rows = read_metadata(metadata, base, told)
    look = partial(_look, rows, rules, cache, told)
    found = look() if is_main() else None
    barrier("catalogue", timeout=None)  # the others find what process 0 has seen, where they share the folder
    found = found or look()
    told.say(describe(found))
    for line in describe_notes(found):
        told.say(line)
    skipped.rows(found.rejected, len(rows))
    if not found.entries:
        raise UserError(f"{', '.join(metadata)}: no video is left; see {skipped.path} for why")
    return found, RawSource.of(found, rules, seed)


def _look(rows: Sequence[Any], rules: VideoRules, cache: Path, reporter: Reporter) -> Catalogue:
    def counted(videos):
        with reporter.bar(len(rows), "videos", "video") as bar:
            for video in videos:
                yield video
                bar.update()

    return make_catalogue(rows, rules, cache, progress=counted)
