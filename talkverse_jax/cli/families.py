"""Which family's options join a command's."""

import contextlib
import dataclasses
from collections.abc import Sequence

from talkverse_jax.cli.flags import peek
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.pipeline import registry


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
