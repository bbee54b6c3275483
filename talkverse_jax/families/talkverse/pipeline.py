"""TalkVerse's pipeline (being written)."""

from typing import Any

from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Inputs, Pipeline


def load_pipeline(weights: Weights, machine: Machine, **how: Any) -> Pipeline:
    raise NotImplementedError


def read(job: Job) -> Inputs:
    raise NotImplementedError
