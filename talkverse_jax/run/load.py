"""The pipeline of a folder of converted weights, for Python programs."""

from pathlib import Path
from typing import Any

from talkverse_jax.core.options import build
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Pipeline


def load_pipeline(weights: str | Path, *, keep_encoders: bool = False, **options: Any) -> Pipeline:
    """The models of a folder of converted weights, each loaded when it is first needed.

        pipeline = talkverse_jax.load_pipeline("weights", dtype="float32")
        job = pipeline.job(image="face.png", audio="speech.wav", prompt="A woman talks.", output="talk.mp4")
        talkverse_jax.make_video(pipeline, job)

    Args:
      keep_encoders: keep text and audio encoder in memory for the next job.
      options: of weights and machine, by the names of the flags (docs/flags.md).

    Raises:
      UserError: the weights or an option cannot be used.
    """
    groups = {"weights": Weights, "machine": Machine}
    made = build(groups, {"weights": str(weights), **options}, "load_pipeline")
    family = registry.find(registry.family_of(weights))
    return family.load_pipeline(made["weights"], made["machine"], keep_encoders=keep_encoders)
