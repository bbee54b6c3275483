"""The figures of a set of videos: one record a video, and medians and spreads over all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from talkverse_jax.evaluate.measures import Measured

Record = dict[str, Any]


def record(video: Measured, swapped: Measured | None) -> Record:
    """The figures of a video.

    Args:
      swapped: the video whose sound is put in the place of its own; none where there is no other.
    """
    parts = {}
    for part, where in video.parts.items():
        own, other = video.sync(part), swapped and video.sync(part, swapped.loud)
        parts[part] = {
            "correlation": own and own.correlation,
            "lag": own and own.lag,
            "correlation_at_lag": own and own.best,
            "correlation_swapped": other and other.correlation,
            "identity": float(video.identity[where].mean()),
        }
    drift, jumps = video.drift(), video.jumps
    return {
        "video": video.name,
        "frames": len(video.opening),
        "widest_opening": float(np.percentile(video.opening, 95)),  # pixels
        **parts,
        "drift": {**dataclasses.asdict(drift), "identity": drift.identity},
        "jumps": jumps and {**dataclasses.asdict(jumps), "ratio": jumps.ratio},
    }


def summary(records: Sequence[Record]) -> Record:
    """Median, mean, standard deviation, least and most of every figure over the videos that have it."""
    return _merged([{key: value for key, value in one.items() if key != "video"} for one in records])


def _merged(records: Sequence[Record | None]) -> Record:
    result = {}
    present = [one for one in records if one is not None]
    for key in dict.fromkeys(key for one in present for key in one):
        values = [one[key] for one in present if one.get(key) is not None]
        if values and isinstance(values[0], dict):
            result[key] = _merged(values)
        elif values:
            result[key] = {
                "median": float(np.median(values)),
                "mean": float(np.mean(values)),
                "std": float(np.std(values)),
                "least": float(np.min(values)),
                "most": float(np.max(values)),
                "videos": len(values),
            }
    return result


_LINES = {
    "correlation": "mouth and sound",
    "lag": "best lag, frames",
    "correlation_at_lag": "mouth and sound at that lag",
    "correlation_swapped": "mouth and another's sound",
    "identity": "face like the reference",
    "colour": "mean colour moves, of 255",
    "sharpness": "sharpness, share of the first",
    "ratio": "jumps at borders / inside",
}
_HEADINGS = {
    "all": "all of it",
    "first": "first clips",
    "later": "later clips",
    "drift": "last 5 s against the first",
    "jumps": "clip borders",
}


def table(figures: Record) -> str:
    """The summary as lines: median, mean and spread."""
    lines = [f"{'':34}{'median':>9}{'mean':>9}{'spread':>9}{'least':>9}{'most':>9}{'videos':>8}"]
    for part, heading in _HEADINGS.items():
        shown = {key: figures[part][key] for key in _LINES if key in figures.get(part, {})}
        lines += [heading] if shown else []
        for key, value in shown.items():
            cells = "".join(f"{value[name]:9.3f}" for name in ("median", "mean", "std", "least", "most"))
            lines.append(f"  {_LINES[key]:32}{cells}{value['videos']:8d}")
    return "\n".join(lines)
