"""Serve talking videos over HTTP: OpenAI's video routes, and a page at /.

Options of videos and sampling are the defaults of requests; a config of sample may be given as it is.
"""

import dataclasses
import sys
import typing
from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named, with_settings_of
from talkverse_jax.cli.flags import Given, read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, blanks, describe
from talkverse_jax.helpers.prompt.options import PromptOptions
from talkverse_jax.helpers.speech.options import SpeechOptions
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.serve.options import ServeOptions

_OF_REQUESTS = ("video", "sampling")  # groups of options
_NEEDED_TO_MAKE = ("sqlalchemy", "dbos")
_NEEDED = ("starlette", "uvicorn", "python_multipart", "httpx", "prometheus_client", *_NEEDED_TO_MAKE)


def groups(family: str) -> Groups:
    """The options, where a model of that family makes the videos."""
    return {
        "weights": Weights,
        "choice": FamilyChoice,
        "defaults": request_defaults(registry.settings_of(family).Settings),
        "machine": Machine,
        "serve": ServeOptions,
        "prompt": PromptOptions,
        "speech": SpeechOptions,
    }


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    every = groups(family)
    given, made, usual = read_service(family, every, prog, __doc__ or "", argv)
    asked = {each.name for each in describe({"defaults": every["defaults"]})} & given.values.keys()
    check_packages(_NEEDED)
    from talkverse_jax.serve.command import Service, serve

    service = Service(
        family=registry.family_of(made["weights"].weights),
        weights=made["weights"],
        machine=made["machine"],
        usual=usual,
        defaults={name: given.values[name] for name in asked},
        options=made["serve"],
        prompt=made["prompt"],
        speech=made["speech"],
        modules=registry.others(),
    )
    sys.exit(serve(service))


def read_service(
    family: str, every: Groups, prog: str, text: str, argv: Sequence[str] | None, others: Groups | None = None
) -> tuple[Given, dict[str, typing.Any], typing.Any]:
    """What was given, the options made of it, and the settings of a request that leaves all out.

    Args:
      every: the groups of the command's options.
      others: of another command, whose configs may be given too.

    Raises:
      UserError: something cannot be used.
    """
    module = registry.settings_of(family)
    of_a_job: Groups = {
        "files": module.Files,
        "settings": module.Settings,
        "output": Output,
        "batch": BatchOptions,
    }
    known = {each.name for each in describe(every)}
    elsewhere = [each.name for each in describe(of_a_job) + describe(others or {}) if each.name not in known]
    given = read(every, prog, text, argv, ignored=elsewhere)
    made = given.build(every)
    made["choice"].check(made["weights"].weights)
    given = with_settings_of(made["weights"].weights, given)
    made = given.build(every)
    settings: Groups = {"settings": module.Settings}
    return given, made, given.having(blanks(settings)).build(settings)["settings"]


def request_defaults(settings: type) -> type:
    """Those of a family's settings that a server has defaults of: not what every request must say, nor the seed."""
    hints = typing.get_type_hints(settings)
    fields = [
        (each.name, hints[each.name], dataclasses.field(default=each.default, metadata=each.metadata))
        for each in dataclasses.fields(settings)
        if each.default is not dataclasses.MISSING
        and each.name != "base_seed"
        and (each.metadata["group"] in _OF_REQUESTS or each.name == "negative_prompt")
    ]
    return dataclasses.make_dataclass("RequestDefaults", fields, frozen=True)


def check_packages(needed: Sequence[str] = _NEEDED_TO_MAKE) -> None:
    """Raises:
    UserError: one of them is missing.
    """
    from importlib.util import find_spec

    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(f"serving needs {', '.join(missing)}; run: pip install 'talkverse_jax[serve]'")
