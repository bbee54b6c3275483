"""The form of the original's page, in the words of ours."""

import re
from typing import Any

from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.field_table import Field
from talkverse_jax.serve.http.fields import Fields
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.http.values import text_of, value_of

_AREA = re.compile(r"[\d,]{1,20}")

# Its fields, and what they are unless given; None has no default.
_DEFAULTS: dict[str, Any] = {
    "image": None,
    "audio": None,
    "prompt": "A person speaking to the camera.",
    "size_bucket": "fasttalk-720",
    "max_area": "902,400",
    "infer_frames": 120,
    "num_clip": 2,
    "sample_steps": 50,
    "sample_guide_scale": 6.5,
    "base_seed": -1,
    "offload_model": True,
    "init_first_frame": False,
    "sample_solver": "unipc",
    "stream": None,
}
_FLOW_SHIFT = 5.0
_IGNORED = ("max_area", "offload_model", "stream")
_FILES = {"image": "input_reference", "audio": "audio_reference"}


def stream_of(form: Form) -> str:
    """What its field `stream` says: "1" where it is left out.

    Raises:
      Fault: neither 0 nor 1.
    """
    given = form.values.get("stream")
    text = "1" if given is None else text_of(given, "stream").strip()
    if text not in ("0", "1"):
        raise Fault("invalid_value", f"stream: {said(text)}: give 0 or 1", "stream")
    return text


def translated(form: Form, fields: Fields) -> tuple[Form, tuple[str, ...]]:
    """The form that asks us for the same, and notices.

    Raises:
      Fault: a field is unknown, missing, or checked in vain.
    """
    for name in form.values:
        if name not in _DEFAULTS:
            raise Fault("unknown_parameter", f"{said(name)}: no such field; give {', '.join(_DEFAULTS)}", said(name))
    for name in _FILES:
        if name not in form.values:
            raise Fault("missing_required_parameter", f"{name}: is missing; send the file", name)
    _check_ignored(form)
    made = {_FILES.get(name, name): value for name, value in form.values.items() if name not in _IGNORED}
    defaults = {name: value for name, value in _DEFAULTS.items() if value is not None and name not in _IGNORED}
    made = {name: value for name, value in defaults.items() if fields.has(name)} | made
    if fields.has("flow_shift"):
        made["flow_shift"] = _FLOW_SHIFT
    notices = []
    bucket = made.pop("size_bucket", _DEFAULTS["size_bucket"])
    bucket = bucket if isinstance(bucket, str) else text_of(bucket, "size_bucket")
    if bucket in fields.buckets:
        made["size_bucket"] = bucket
    else:
        usual = fields.buckets[0] if fields.buckets else "the model's own size"
        notices.append(f"size_bucket {said(bucket)}: is not served; {usual} is taken")
    return Form(made, {ours: theirs for theirs, ours in _FILES.items()}), tuple(notices)


def _check_ignored(form: Form) -> None:
    if (area := form.values.get("max_area")) is not None:
        text = text_of(area, "max_area").strip()
        if not _AREA.fullmatch(text):
            raise Fault("invalid_value", f"max_area: {said(text)}: give a number", "max_area")
    if (offload := form.values.get("offload_model")) is not None:
        value_of(Field("offload_model", "boolean"), offload, "offload_model")
