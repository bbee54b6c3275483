"""The figures of a set of videos: one record a video, and medians and spreads over all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from talkverse_jax.evaluate.measures import Measured
from talkverse_jax.evaluate.silence import movement_in_silence

Record = dict[str, Any]


def record(video: Measured, others: Sequence[Measured] = (), together: bool = False) -> Record:
    """The figures of a video, or of a person in one.

    Args:
      others: whose sounds are put in the place of its own; of several the one that goes best with the mouth counts.
      together: they are people of the same pictures.
    """
    parts = {}
    for part, where in video.parts.items():
        own, found = video.sync(part), [video.sync(part, other.loud) for other in others]
        other = max((each for each in found if each), key=lambda each: each.correlation, default=None)
        parts[part] = {
            "correlation": own and own.correlation,
            "lag": own and own.lag,
            "correlation_at_lag": own and own.best,
            "correlation_swapped": other and other.correlation,
            "identity": float(video.identity[where].mean()),
        }
    drift, jumps = video.drift(), video.jumps
    mouths = [(other.opening, other.loud) for other in others] if together else []
    in_silence = movement_in_silence((video.opening, video.loud), mouths)
    return {
        "video": video.name,
        "frames": len(video.opening),
        "widest_opening": float(np.percentile(video.opening, 95)),  # pixels
        **parts,
        "drift": {**dataclasses.asdict(drift), "identity": drift.identity, "identity_change": drift.identity_change},
        "silence": None if in_silence is None else {"movement": in_silence},
        "changes": dataclasses.asdict(video.changes),
        "jumps": jumps and {**dataclasses.asdict(jumps), "ratio": jumps.ratio},
    }


def summary(records: Sequence[Record]) -> Record:
    """Median, mean, standard deviation, least and most of every figure over the videos that have it; None where none
    has."""
    return _merged([{key: value for key, value in one.items() if key != "video"} for one in records])


def _merged(records: Sequence[Record | None]) -> Record:
    result = {}
    present = [one for one in records if one is not None]
    for key in dict.fromkeys(key for one in present for key in one):
        values = [one[key] for one in present if one.get(key) is not None]
        if not values:
            result[key] = None
        elif isinstance(values[0], dict):
            result[key] = _merged(values)
        else:
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
    "identity_change": "face like the reference, change",
    "colour": "mean colour moves, of 255",
    "colour_percent": "mean colour moves, per cent",
    "sharpness": "sharpness, share of the first",
    "movement": "mouth moves, share of in speech",
    "usual": "usual change, of 255",
    "first_ten": "largest of the first ten / usual",
    "border": "at borders of clips / usual",
    "keyframe": "at keyframes / usual",
    "ratio": "jumps at borders / inside",
}
_HEADINGS = {
    "all": "all of it",
    "first": "first clips",
    "later": "later clips",
    "silence": "in silence",
    "drift": "last 5 s against the first",
    "changes": "change from frame to frame",
    "jumps": "clip borders",
}


def table(figures: Record) -> str:
    """The summary as lines; dashes where no video has a figure."""
    lines = [f"{'':34}{'median':>9}{'mean':>9}{'spread':>9}{'least':>9}{'most':>9}{'videos':>8}"]
    for part, heading in _HEADINGS.items():
        known = figures.get(part) or {}
        shown = {key: known[key] for key in _LINES if key in known}
        lines += [heading] if shown else []
        for key, value in shown.items():
            names = ("median", "mean", "std", "least", "most")
            cells = "".join(f"{value[name]:9.3f}" if value else f"{'-':>9}" for name in names)
            lines.append(f"  {_LINES[key]:32}{cells}{value['videos'] if value else 0:8d}")
    return "\n".join(lines)
