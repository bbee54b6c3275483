"""A form that leaves nothing: read, checked, used, and its files are gone."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request

from talkverse_jax.serve.http.errors import Fault, of_disk, said
from talkverse_jax.serve.http.field_table import Field
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.values import value_of
from talkverse_jax.serve.jobs.job import new_id


@asynccontextmanager
async def scratch_form(setup: Setup, request: Request, *kinds: str) -> AsyncIterator[tuple[Form, Path]]:
    """A request's form, and a folder for its files while the block lasts.

    Args:
      kinds: content types that are taken.
    """
    kind, name = setup.bodies.kind(request, *kinds), new_id()
    folder = await asyncio.to_thread(setup.jobs.folder, name)
    try:
        bodies = folder / "bodies"
        await asyncio.to_thread(bodies.mkdir)
        async with setup.bodies.read(request, kind, bodies) as form:
            yield form, folder
    except OSError as error:
        raise of_disk(error) from None
    finally:
        await asyncio.to_thread(setup.jobs.refuse, name)


def checked(form: Form, fields: Sequence[Field], choices: Mapping[str, Sequence[str]], required: str) -> dict[str, Any]:
    """The values of a small form, files as they came.

    Args:
      choices: of some fields.
      required: a field that must be there.

    Raises:
      Fault: a field is unknown, missing, or its value cannot be.
    """
    known = {each.name: each for each in fields}
    for name in form.values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give {', '.join(known)}"
            raise Fault("unknown_parameter", f"{said(name)}: no such field; {hint}", said(name))
    if required not in form.values:
        raise Fault("missing_required_parameter", f"{required}: is missing; give it", required)
    found = {}
    for name, each in known.items():
        if name not in form.values:
            continue
        given = form.values[name]
        value = given if each.kind == "reference" else value_of(each, given, name)
        if name in choices and value not in choices[name]:
            raise Fault("invalid_value", f"{name}: {said(value)}: give {', '.join(choices[name])}", name)
        found[name] = value
    return found
