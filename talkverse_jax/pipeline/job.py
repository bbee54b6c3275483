"""What is to be made, and nothing of how it is shown. Imports no JAX."""

import dataclasses
import functools
import hashlib
import json
import random
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talkverse_jax.core import options
from talkverse_jax.core.files import open_regular
from talkverse_jax.core.paths import expanded, on_disk
from talkverse_jax.pipeline.common_options import check_seed
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.weights import manifest

_WEIGHTS = "weights' files"


@dataclasses.dataclass(frozen=True)
class Job:
    """One video.

    Attributes:
      family: its name.
      files, settings: the family's own, see its module `settings`; `settings.base_seed` is what was asked for.
      output: the video file.
      seed: that is used.
      helped: how its prompt was improved and its sounds spoken, for its record; decides nothing.
    """

    family: str
    weights: Weights
    machine: Machine
    files: Any
    settings: Any
    output: str
    seed: int
    helped: Mapping[str, Any] | None = None

    @classmethod
    def make(
        cls,
        family: str,
        weights: Weights,
        machine: Machine,
        files: Any,
        settings: Any,
        output: str,
        helped: Mapping[str, Any] | None = None,
    ) -> "Job":
        """The job; where no seed is asked for (-1), one is drawn, here and nowhere else."""
        check_seed(settings)
        asked = settings.base_seed
        seed = random.SystemRandom().randrange(2**31) if asked == -1 else asked
        return cls(family, weights, machine, files, settings, output, seed, helped)

    @property
    def any_seed(self) -> bool:
        """Whether no seed was asked for: a video of another seed is this one too."""
        return self.settings.base_seed == -1

    def with_seed(self, seed: int) -> "Job":
        """The same job with another seed."""
        return dataclasses.replace(self, seed=seed)

    @functools.cached_property
    def made_from(self) -> dict[str, Any]:
        """All that decides the video, by name: settings, and digests of what the files hold, wherever they lie."""
        found: dict[str, Any] = {}
        for group in (self.weights, self.machine, self.files, self.settings):
            for field in dataclasses.fields(group):
                value = getattr(group, field.name)
                if not field.metadata["decides"] or field.metadata["of"] and not getattr(group, field.metadata["of"]):
                    continue
                if field.metadata["metavar"] != "FILE":
                    found[field.name] = _plain(value)
                elif value:
                    found[_file(field.name)] = _digests(value, field.metadata["beside"])
        return found | {"base_seed": self.seed, _WEIGHTS: manifest.identity(self.weights.weights)}

    def files_read(self) -> Iterator[tuple[str, str | Path]]:
        """Files and folders that the job reads, each with the flag that names it."""
        for group in (self.weights, self.machine, self.files, self.settings):
            for field in dataclasses.fields(group):
                if field.metadata["metavar"] not in ("FILE", "DIR"):
                    continue
                value = getattr(group, field.name)
                for path in (value,) if isinstance(value, str) else value or ():
                    yield f"--{field.name}", path
                    if field.metadata["beside"]:
                        yield f"--{field.name}", _beside(path, field.metadata["beside"])

    def identity(self) -> str:
        """The digest of all that decides the video: of two jobs with one identity, one need not be made."""
        text = json.dumps(self.made_from, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def completed(self, before: dict[str, Any]) -> dict[str, Any]:
        """`made_from` of a video that is there, maybe of an older program: what that one did not know of counts as the
        default."""
        before = {**before, _WEIGHTS: manifest.comparable(before.get(_WEIGHTS))}
        groups = (self.weights, self.machine, self.files, self.settings)
        for name, default in options.defaults(*groups).items():
            before.setdefault(name, _plain(default))
        for field in (field for group in groups for field in dataclasses.fields(group)):
            if (other := field.metadata["of"]) and _file(other) not in before and not before.get(other):
                before.pop(field.name, None)  # an older program noted it whether or not it mattered
        for name, value in before.items():
            if isinstance(value, str) and isinstance(self.made_from.get(name), list):
                before[name] = [value]  # where an older program took one file
        return before

    def differences(self, before: dict[str, Any]) -> list[str]:
        """What decides the video and was otherwise, in order of name.

        Args:
          before: `made_from` of a video that is there.
        """
        now, before = dict(self.made_from), self.completed(before)
        if self.any_seed:
            del now["base_seed"], before["base_seed"]
        return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))

    def with_seed_of(self, name: str) -> "Job":
        """Where no seed was asked for, that of a name: the same name has the same video."""
        if not self.any_seed:
            return self
        seed = zlib.crc32(name.encode()) & 2**31 - 1
        settings = dataclasses.replace(self.settings, base_seed=seed)
        return dataclasses.replace(self, settings=settings, seed=seed)


def _file(option: str) -> str:
    """Under what the contents of an option's files are noted."""
    return f"{option}'s file"


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _digests(value: str | tuple[str, ...], beside: str | None) -> Any:
    """Of files, and of those that belong to them."""
    if not isinstance(value, str):
        return [path if path == options.NO_FILE else _digests(path, beside) for path in value]
    other = _beside(value, beside) if beside else None
    return digest(value) + (f" {digest(str(other))}" if other and on_disk(other).is_file() else "")


def _beside(path: str, name: str) -> Path:
    """A file that belongs to another, in its folder."""
    return expanded(path).parent / name


def digest(path: str) -> str:
    """SHA-256 of a file."""
    with open_regular(path, "what the job is made of") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
