"""From what a client sent to values of the fields' types: text in a form, values of their own types in JSON."""

import math
import re
from typing import Any

from talkverse_jax.core import strict_json
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.text import is_text
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.field_table import Field
from talkverse_jax.serve.http.multipart import Part

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][+-]?\d{1,3})?")
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_LONGEST = 4 * 32_000  # bytes of a text that may be a value
_BOX = ("top", "left", "bottom", "right")

_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "seconds": "seconds",
    "object": "an object",
}


def value_of(field: Field, given: Any, param: str) -> Any:
    """A field's value, checked as far as its type and range go.

    Raises:
      Fault: it is of another type, or out of range.
    """
    value = _of_type(field.kind, given, param)
    if isinstance(value, str):
        _check_text(field, value, param)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(field, value, param)
    return value


def _of_type(kind: str, given: Any, param: str) -> Any:
    if isinstance(given, Part):
        text = text_of(given, param)
        return _from_text(kind, text, param)
    if kind == "seconds" and isinstance(given, str):
        return _from_text(kind, given, param)
    types: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "seconds": (int, float),
        "boolean": (bool,),
        "object": (dict,),
    }
    if not isinstance(given, types[kind]) or (isinstance(given, bool) and kind != "boolean"):
        raise Fault("invalid_type", f"{param}: give {_WORDS[kind]}", param)
    if isinstance(given, str) and not is_text(given):
        raise Fault("invalid_value", f"{param}: has half a character; send text in UTF-8", param)
    return given


def text_of(part: Part, param: str) -> str:
    """A text of a form.

    Raises:
      Fault: it is a file, too long for any value, or no UTF-8.
    """
    if part.is_file:
        raise Fault("invalid_type", f"{param}: is a file; give a text", param)
    if part.size > _LONGEST:
        raise Fault("invalid_value", f"{param}: is too long", param)
    try:
        return part.text()
    except ValueError:
        raise Fault("invalid_value", f"{param}: is no UTF-8; send text in UTF-8", param) from None


def _from_text(kind: str, text: str, param: str) -> Any:
    wrong = Fault("invalid_value", f"{param}: {said(text)}: give {_WORDS[kind]}", param)
    if kind == "string":
        return text
    if kind == "integer":
        if not _INTEGER.fullmatch(text.strip()):
            raise wrong
        return int(text)
    if kind in ("number", "seconds"):
        if not _NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
            raise wrong
        return float(text)
    if kind == "boolean":
        if text.strip().lower() not in _TRUE + _FALSE:
            raise wrong
        return text.strip().lower() in _TRUE
    try:
        found = strict_json.loads(text, param)
    except UserError:
        raise wrong from None
    if not isinstance(found, dict):
        raise wrong
    return found


def _check_text(field: Field, value: str, param: str) -> None:
    least, most = field.least or 0, field.most
    if len(value) < least:
        raise Fault("invalid_value", f"{param}: is empty; give {_WORDS['string']}", param)
    if most is not None and len(value) > most:
        raise Fault("invalid_value", f"{param}: has {len(value)} characters; give at most {most:g}", param)


def _check_number(field: Field, value: float, param: str) -> None:
    def refused(what: str) -> Fault:
        return Fault("invalid_value", f"{param}: {said(value)}: give {what}", param)

    if isinstance(value, float) and not math.isfinite(value):
        raise refused("a number")
    if field.above is not None and not value > field.above:
        raise refused(f"a number above {field.above:g}")
    if field.least is not None and value < field.least:
        raise refused(f"{field.least:.10g} or more" if field.most is None else f"{field.least:g} to {field.most:.10g}")
    if field.most is not None and value > field.most:
        raise refused(f"at most {field.most:.10g}")
    if field.multiple is not None and value % field.multiple:
        raise refused(f"a multiple of {field.multiple}")


def box_of(given: Any, param: str) -> str:
    """The box [top, left, bottom, right], as the option takes it.

    Raises:
      Fault: it is none.
    """
    if isinstance(given, Part):
        try:
            given = strict_json.loads(text_of(given, param), param)
        except UserError:
            given = None
    if not isinstance(given, list) or len(given) != len(_BOX):
        raise Fault("invalid_value", f"{param}: give [{', '.join(_BOX)}] in pixels", param)
    values = [_of_type("integer", value, param) for value in given]
    return ",".join(map(str, values))
