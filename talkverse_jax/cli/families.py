"""Which family's options join a command's."""

import contextlib
import dataclasses
from collections.abc import Sequence

from talkverse_jax.cli.flags import Given, peek, shown
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.weights_settings import of_weights


@dataclasses.dataclass(frozen=True)
class FamilyChoice:
    """Of which family the models are."""

    family: str | None = option(
        f"family of the models (default: that of the converted weights; without any, {registry.DEFAULT})",
        group="input",
        metavar="NAME",
        default=None,
    )

    def check(self, weights: str) -> None:
        """Check that the weights are of the family that was asked for.

        Raises:
          UserError: they are of another, or there are none.
        """
        found = registry.family_of(weights)
        if self.family not in (None, found):
            raise UserError(f"{self.family}: the weights in {weights} are of {found}; leave it out", field="family")


def with_settings_of(weights: str, given: Given) -> Given:
    """What was given, and where nothing was, the settings that come with the weights; says which these are.

    Raises:
      UserError: there are no such weights, or this program does not know one of the settings.
    """
    came = {name: value for name, value in of_weights(weights).items() if name not in given.values}
    if came:
        from talkverse_jax.cli.progress import say

        say(f"of {weights}: " + ", ".join(f"--{name} {shown(value)}" for name, value in came.items()))
    return given.having(came)


def family_named(argv: Sequence[str] | None, folder: str = "weights") -> str:
    """The family by `--family`, else by the manifest of the converted weights, else the default; a config counts too.

    Args:
      folder: the option that names the weights.

    Raises:
      UserError: there is no such family or config.
    """
    given = peek(("family", folder), argv)
    name = given.get("family")
    if name is None and isinstance(weights := given.get(folder), str):
        with contextlib.suppress(UserError):  # what is wrong with the folder is told when the weights are read
            name = registry.family_of(weights)
    registry.settings_of(name := name or registry.DEFAULT)
    return name
