"""JSON that a person wrote."""

import json
from collections import Counter
from typing import Any

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.text import hint, lines


def loads(text: str, where: str, line: int | None = None) -> Any:
    """The values of a JSON text. What Python's reader lets pass is refused: NaN, and a key that an object has twice.

    Args:
      where: the file, for messages.
      line: of the file that the text is; None where it is all of it.

    Raises:
      UserError: it is no JSON; the message names the line.
    """
    place = where if line is None else f"{where} line {line}"
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        wrong = lines(text)[error.lineno - 1]
        place = f"{where} line {line or error.lineno}, column {error.colno}"
        raise UserError(f"{place}: not JSON ({error.msg}){hint(wrong)}") from None
    except RecursionError:
        raise UserError(f"{place}: nested too deeply; give plain values") from None
    except ValueError as error:  # of the functions below; of a number with thousands of digits
        raise UserError(f"{place}: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {brief(twice)} twice; give it once")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON; give a number, or leave it out")
