"""What is known of a run while it goes on: `metrics.jsonl`, `held_out.jsonl`, TensorBoard and Weights & Biases.

Each line is of the steps since the one before it. The names are those of the curves:

    loss, loss_by_noise/<from>-<to>      mean over the samples; over those of these timesteps
    gradient_norm/<group>                mean over the steps, before clipping
    learning_rate/<group>                of the last step
    samples_per_second, mfu              MFU: model FLOP/s as a share of the devices' peak, where that is known
    data_wait                            share of the time in which devices waited for data
    epoch, samples, skipped/<reason>     since the beginning of the run

Of a run of several networks, the first three are those of the one that is exported; those of another begin with its
name (critic/loss).
"""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from tensorboardX import SummaryWriter

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import replacing
from talkverse_jax.diffusion.flow import NUM_TRAIN_TIMESTEPS
from talkverse_jax.sharding.topologies import TOPOLOGIES
from talkverse_jax.training.strategy import Group

FILE = "metrics.jsonl"
HELD_OUT = "held_out.jsonl"
_BINS = 5  # of timesteps


class Range(NamedTuple):
    """Timesteps that a curve is of; `end` is outside."""

    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.start}-{self.end - 1}"

    @property
    def center(self) -> int:
        return (self.start + self.end) // 2


_WIDTH = NUM_TRAIN_TIMESTEPS // _BINS
RANGES = tuple(Range(start, start + _WIDTH) for start in range(0, NUM_TRAIN_TIMESTEPS, _WIDTH))


@dataclasses.dataclass
class Interval:
    """The steps since the last line."""

    losses: list[np.ndarray] = dataclasses.field(default_factory=list)
    timesteps: list[np.ndarray] = dataclasses.field(default_factory=list)
    norms: list[Mapping[Group, float]] = dataclasses.field(default_factory=list)
    before: int = 0  # the last update, of its network

    def add_samples(
        self,
        losses: Float[np.ndarray, " B"],
        weights: Float[np.ndarray, " B"],
        known: Mapping[str, Shaped[np.ndarray, " B"]],
    ) -> None:
        """A batch; samples of weight 0 are not counted.

        Args:
          known: what else the loss told of each sample; its timestep, where it has one.
        """
        timesteps = known.get("timestep", np.full(len(losses), -1))
        self.losses.append(losses[weights > 0])
        self.timesteps.append(timesteps[weights > 0])

    def add_update(self, norms: Mapping[Group, float], before: int) -> None:
        """An update, by the gradient norm of each group.

        Args:
          before: updates of its network that were made before.
        """
        self.norms.append(norms)
        self.before = before

    @property
    def groups(self) -> tuple[Group, ...]:
        """Of parameters; none where there was no update."""
        return tuple(self.norms[0]) if self.norms else ()

    @property
    def samples(self) -> int:
        return sum(map(len, self.losses))

    def means(self) -> dict[str, float]:
        """Losses and norms."""
        losses, timesteps = np.concatenate(self.losses or [[]]), np.concatenate(self.timesteps or [[]])
        values = {"loss": float(losses.mean())} if len(losses) else {}
        for each in RANGES:
            of_range = losses[(timesteps >= each.start) & (timesteps < each.end)]
            if len(of_range):
                values[f"loss_by_noise/{each.name}"] = float(of_range.mean())
        for group in self.groups:
            values[f"gradient_norm/{group}"] = float(np.mean([norms[group] for norms in self.norms]))
        return values


class Log:
    """The curves of a run, written by one process.

    Args:
      step: updates made before; of a run that goes on, what was logged of later steps is dropped.
      wandb_project: None: not there.
      config: what W&B shows beside the curves.

    Raises:
      UserError: W&B is asked for and not installed.
    """

    def __init__(
        self, folder: Path, step: int, *, tensorboard: bool, wandb_project: str | None, config: dict[str, Any]
    ):
        self._folder = folder
        for name in (FILE, HELD_OUT):
            _cut(folder / name, step)
        self._tensorboard = _open_tensorboard(folder / "tensorboard", step) if tensorboard else None
        self._wandb = _open_wandb(folder, wandb_project, config) if wandb_project else None

    def write(self, step: int, values: Mapping[str, float], name: str = FILE) -> None:
        """A line of a file, of an update's number.

        Raises:
          OSError: with the file's name.
        """
        path = self._folder / name
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)
            self._tensorboard.flush()
        if self._wandb:
            self._wandb.log(dict(values), step=step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """A picture, for TensorBoard alone."""
        if self._tensorboard:
            self._tensorboard.add_image(name, image, step, dataformats="HWC")
            self._tensorboard.flush()

    def close(self) -> None:
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish()


def peak_flops(device_kinds: list[str], dtype: str) -> float | None:
    """FLOP/s of products that devices of these kinds make at most together; None: not known of one of them."""
    known = {t.generation.device_kind: t.generation for t in TOPOLOGIES.values()}
    if not known.keys() >= set(device_kinds):
        return None
    peaks = [known[kind].flops if dtype == "bfloat16" else known[kind].float32_flops for kind in device_kinds]
    return sum(peak for peak in peaks if peak is not None) if None not in peaks else None


def _cut(path: Path, step: int) -> None:
    """Drop the lines of later steps, and one that an interrupted run left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with replacing(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


def _open_tensorboard(folder: Path, step: int) -> SummaryWriter:
    """TensorBoard drops what earlier files have of later steps."""
    return SummaryWriter(str(folder), purge_step=step + 1, filename_suffix=f".{step}")


def _open_wandb(folder: Path, project: str, config: dict[str, Any]):
    if importlib.util.find_spec("wandb") is None:
        raise UserError("wandb is not installed; pip install wandb, or leave the flag out", field="use_wandb")
    import wandb  # pyright: ignore[reportMissingImports]  # an extra

    name = folder.resolve().name
    return wandb.init(project=project, name=name, id=name, dir=str(folder), config=config, resume="allow")
