"""The folder of a run: one run at a time is at work in it, and what that was told stands there."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import flax
import jax
import optax
import orbax.checkpoint

import talkverse_jax
from talkverse_jax.core.lock import locked
from talkverse_jax.core.paths import new_folder, replacing
from talkverse_jax.sharding.distributed import from_main, is_main
from talkverse_jax.training.options import RunFolder, TrainOptions

LOCK = "run.lock"
CONFIG = "config.toml"


@contextmanager
def alone(folder: RunFolder) -> Iterator[None]:
    """Make the run's folder and that of its checkpoints, and hold both while the block lasts; process 0 does so for
    all.

    Raises:
      UserError: another run holds one, or it cannot be made.
    """
    new_folder(folder.output_path)
    with ExitStack() as held:
        for name in (folder.output_path, folder.checkpoints) if is_main() else ():
            if "://" not in name:
                busy = f"{name}: another run is at work in it; let it end, or give another --output_path"
                held.enter_context(locked(new_folder(name) / LOCK, busy))
        from_main("alone", "")  # the others touch nothing before
        yield


def versions() -> dict[str, str]:
    """Of the programs that a run depends on."""
    return {m.__name__: m.__version__ for m in (talkverse_jax, jax, flax, optax, orbax.checkpoint)}


def changed(before: Mapping[str, Any], options: TrainOptions) -> list[str]:
    """How options of training differ from those of a checkpoint; of those it knows."""
    groups = (options.optimization, options.tuning, options.settings)
    now = json.loads(json.dumps({name: value for group in groups for name, value in vars(group).items()}))
    return [
        f"--{name} was {before[name]}, now {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def write_config(options: TrainOptions, resolved: Mapping[str, Any], facts: Mapping[str, str]) -> None:
    """Write every option that has a value, but for how processes meet, as TOML that `--config` takes.

    Args:
      resolved: options whose value was found out, in place of what was given.
      facts: to stand above as comments.
    """
    path = Path(options.folder.output_path) / CONFIG
    started = {field.name for field in dataclasses.fields(options.processes)}
    values = {name: value for name, value in {**options.flat(), **resolved}.items() if name not in started}
    lines = [f"# What this run was told; talkverse-jax train --config {CONFIG} tells it again."]
    lines += [f"# {name}: {' '.join(fact.split())}" for name, fact in facts.items()]
    lines += [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
    with replacing(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are JSON's
    return str(value).lower() if isinstance(value, bool) else repr(value)
