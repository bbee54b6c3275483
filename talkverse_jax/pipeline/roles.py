"""Which of a family's options are the picture, the sounds and the prompt of a video. Imports no JAX."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from talkverse_jax.core.options import NO_FILE
from talkverse_jax.pipeline import registry

_MOST = 9  # people whose words a text can tell apart
_PICTURE, _SOUND, _PROMPT = "picture", "sound", "prompt"


@dataclasses.dataclass(frozen=True)
class Roles:
    """Names of options.

    Attributes:
      several: whether several people can speak, each with a sound.
    """

    picture: str
    sound: str
    prompt: str
    several: bool

    @property
    def people(self) -> int:
        """Most that can speak."""
        return _MOST if self.several else 1

    def sounds(self, paths: Sequence[str | None]) -> dict[str, Any]:
        """The option that names these sounds; None of a person who says nothing."""
        named = [path or NO_FILE for path in paths]
        return {self.sound: named if self.several else named[0]}


def roles_of(family: str) -> Roles:
    """Those of a family, as it says itself.

    Raises:
      UserError: there is no such family.
    """
    options = registry.settings_of(family).of_person(_PICTURE, _SOUND, _PROMPT)
    names = {value if isinstance(value, str) else value[0]: name for name, value in options.items()}
    several = not isinstance(options[names[_SOUND]], str)
    return Roles(names[_PICTURE], names[_SOUND], names[_PROMPT], several)
