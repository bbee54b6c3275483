"""The contract that a family keeps and every caller relies on: models loaded once, jobs come and go.

    encoded = pipeline.encode(job, events)          # files read; text and sound encoded
    timeline = pipeline.timeline(encoded)
    state = pipeline.start(encoded, events)
    while state.clip < timeline.clips:
        for _, clip, state in pipeline.advance([state], [events]):
            ...

Between two calls of `advance` a caller may stop, make another pack, or wait. `run/worker.py` is the loop.
"""

import abc
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from flax import nnx

from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.live_features import Unending
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.models import Models

Saved = dict[str, np.ndarray]  # what the next clip must know, by name


class Track(Protocol):
    """The sound of a video file, a block at a time (see `media.audio.SoundFile`)."""

    @property
    def rate(self) -> int: ...

    def native(self) -> Any:
        """The samples, in blocks [n, channels] at `rate` Hz."""
        ...


class Inputs(Protocol):
    """A job's files, read and checked; a family's own class has more.

    Attributes:
      size: (H, W) of the video.
      track: what the video file plays.
      shape: jobs of one shape can be denoised together.
      seconds: of the video; jobs of one shape are ordered by it.
      notices: lines for the person: what was amiss with the files, and what was done about it.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def track(self) -> Track: ...

    @property
    def shape(self) -> Hashable: ...

    @property
    def seconds(self) -> float: ...

    @property
    def notices(self) -> tuple[str, ...]: ...


class Encoded(Protocol):
    """A job, encoded: all that its clips need; a family's own class has more.

    Attributes:
      notices: lines for the person, such as a prompt that was cut.
    """

    @property
    def job(self) -> Job: ...

    @property
    def inputs(self) -> Inputs: ...

    @property
    def notices(self) -> tuple[str, ...]: ...


class Pipeline(abc.ABC):
    """A family's models on this machine.

    Attributes:
      family: its name.
      weights, machine: what is loaded, and how.
      models: by component.
      pack: how many states `advance` takes at once.
    """

    family: str
    weights: Weights
    machine: Machine
    models: Models
    pack: int = 1

    def job(self, *, output: str = "talk.mp4", **values: Any) -> Job:
        """A job for this pipeline, from files and settings by their flags' names; settings that come with the weights
        are its defaults.

        Raises:
          UserError: a value is unknown, missing or cannot be used.
        """
        from talkverse_jax.pipeline.registry import settings_of
        from talkverse_jax.pipeline.weights_settings import of_weights

        module = settings_of(self.family)
        values = of_weights(self.weights.weights) | values
        groups = options.build({"files": module.Files, "settings": module.Settings}, values, "job")
        return Job.make(self.family, self.weights, self.machine, groups["files"], groups["settings"], output)

    @abc.abstractmethod
    def encode(self, job: Job, events: Events, inputs: Inputs | None = None) -> Encoded:
        """Read the job's files and run the encoders; may run beside `advance`, on another thread.

        Args:
          inputs: the files, where they have been read already.

        Raises:
          UserError: a file or a setting cannot be used.
        """

    def listen(self, job: Job, sound: Unending, events: Events) -> Encoded:
        """As `encode`, of a video whose sound comes while it is made, in place of that of the job's files. Its timeline
        is `Endless`, and `advance` waits for the sound of its clip.

        Args:
          sound: mono, at the rate of the speech encoder.

        Raises:
          UserError: the family makes no such videos, or as of `encode`.
        """
        raise UserError(f"{self.weights.weights}: models of {self.family} need their whole sound; take others")

    @abc.abstractmethod
    def timeline(self, encoded: Encoded) -> Timeline:
        """The clips that the job takes.

        Raises:
          UserError: nothing would be shown.
        """

    @abc.abstractmethod
    def start(self, encoded: Encoded, events: Events) -> State:
        """The state before the first clip."""

    def stage(self, state: State) -> Hashable:
        """What must be the same, besides the shape of their inputs, of states that are advanced together: where a first
        clip is made of other parts than the next ones, which of them comes. States that begin together go together."""
        return None

    @abc.abstractmethod
    def advance(
        self, states: Sequence[State | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, State]]:
        """One clip of each state, all of one shape and stage, denoised together: its place in `states`, the clip, and
        the state after it. They come as each is decoded; take all of them.

        What a state gets depends on the number of states in the last digits, and on nothing else of the others. None
        takes the place of a state that has ended, so that the number stays the same.

        Raises:
          Cancelled: every caller asked to stop; the states are as they were.
        """

    @abc.abstractmethod
    def save(self, state: State) -> Saved | None:
        """What a later run needs to go on, in process 0; all processes must ask."""

    @abc.abstractmethod
    def restore(self, encoded: Encoded, clip: int, saved: Saved, events: Events) -> State:
        """The state that `save` described, before clip number `clip`; all processes have `saved`."""

    def replace(self, **modules: nnx.Module) -> None:
        """Take other models, by component: such as the network as training has it now."""
        self.models.replace(**modules)

    def describe(self) -> dict[str, Any]:
        """Devices and mesh, for the record."""
        return self.models.describe()
