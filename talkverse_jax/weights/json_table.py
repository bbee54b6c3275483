"""JSON files beside weights: tables of values, read as if somebody meant harm."""

import json
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import stand_ins

_MAX_BYTES = 64 * 1024**2
_AGAIN = "download it again"


def read_table(path: Path) -> dict[str, Any]:
    """The values of a file.

    Raises:
      UserError: there is no such file, or another thing in its place, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; download it, with all that is in its folder")
    stand_ins.refuse(path)
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path}: too long for a table of values; {_AGAIN}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; {_AGAIN}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({str(error)[:100]}); {_AGAIN}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a table of values; {_AGAIN}")
    return values
