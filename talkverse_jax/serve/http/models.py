"""The one model, and what can be asked of it."""

import dataclasses
from typing import Any

from talkverse_jax.core.options import describe
from talkverse_jax.serve.http.fields import sizes_of
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.options import ServeOptions

_OWNER = "talkverse_jax"


def model_object(setup: Setup, created: int) -> dict[str, Any]:
    """The model, with the definitions of the options.

    Args:
      created: when, in Unix seconds.
    """
    fields = setup.fields
    limits = [each.name for each in describe({"serve": ServeOptions}) if each.group == "limits"]
    values = dataclasses.asdict(setup.options)
    return {
        "id": setup.names[0],
        "object": "model",
        "created": created,
        "owned_by": _OWNER,
        "capabilities": {
            "speakers": fields.speakers,
            "dubbing": fields.dubs,
            "size_buckets": {name: sizes_of(name) for name in fields.buckets},
            "settings": fields.capabilities(),
            "limits": {name: values[name] for name in limits},
            "speech": setup.engine is not None,
            "prompt_enhancement": setup.enhancer is not None,
        },
    }
