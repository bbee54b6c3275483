"""Settings that come with weights: how their videos are made where a person says nothing else.

A file of sizes (`configs/model_toy.toml`) may have them as its table `[sampling]`; converting notes them in
`manifest.json`. Imports no JAX.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkverse_jax.core.config import read_toml
from talkverse_jax.core.options import blanks, build
from talkverse_jax.pipeline import registry
from talkverse_jax.weights import manifest

TABLE = "sampling"


def of_toml(path: str | Path, family: str) -> dict[str, Any]:
    """Those in a file of sizes; none where it has no such table.

    Raises:
      UserError: one is unknown or refused.
    """
    return _checked(read_toml(path).get(TABLE, {}), family, f"{path}: [{TABLE}]")


def of_weights(folder: str | Path) -> dict[str, Any]:
    """Those of converted weights.

    Raises:
      UserError: there are no converted weights, or this program does not know one.
    """
    return _checked(manifest.settings(folder), registry.family_of(folder), f"{folder}/{manifest.FILE}")


def _checked(values: Mapping[str, Any], family: str, where: str) -> dict[str, Any]:
    groups = {"settings": registry.settings_of(family).Settings}
    build(groups, blanks(groups) | dict(values), where)
    return dict(values)
