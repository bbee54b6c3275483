"""A request's fields, as a server with one model takes them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from talkverse_jax.core.options import Option, describe
from talkverse_jax.media import buckets
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.request import RequestTable, SpeakerFiles
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.field_table import (
    FIELDS,
    JSON_TYPES,
    OF_DUBBING,
    OF_OTHERS,
    OF_OTHERS_BEGIN,
    OF_SPEECH,
    OF_TWO_SPEAKERS,
    ONLY_VIDEOS,
    Field,
)
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.http.values import value_of
from talkverse_jax.serve.options import ServeOptions

FPS = 25
_LIMITS = ("seconds", "num_frames")  # which become the option for the video's length
_NAMED = SpeakerFiles("audio_reference", "speakers", "bbox")  # whose files are the fields that name them
_SIDES = ("width", "height")


@dataclass(frozen=True)
class VideoRequest:
    """What a request asks for.

    Attributes:
      values: by field, checked; without the files.
      files: what the client gave for a field of a file.
      params: of each field, the name that the client gave it.
    """

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)

    def param(self, name: str) -> str:
        return self.params.get(name, name)


class Fields:
    """The fields of a server.

    Args:
      family: of its models.
      defaults: of requests, by the options of the family's `Settings`.
      speakers: how many people a video may have.
      speaks, extends, dubs: whether it makes speech, improves prompts, and takes a video in place of a picture.
    """

    def __init__(
        self,
        family: str,
        defaults: Mapping[str, Any],
        options: ServeOptions,
        *,
        speakers: int,
        speaks: bool,
        extends: bool,
        dubs: bool,
    ):
        module = registry.settings_of(family)
        settings = {each.name: each for each in describe({"settings": module.Settings})}
        self._settings, self._defaults = settings, defaults
        self.table: RequestTable = module.REQUEST
        self.speakers, self.dubs = speakers, dubs
        self.many_speakers = self.table.most_people is not None
        usual = settings.get("size_bucket")
        self.buckets = options.buckets(usual and defaults.get("size_bucket", usual.default))
        self._options = options
        self._known = {name: self._served(each) for each in FIELDS for name in (each.name, *each.aliases)}
        self._lacking: set[str] = set() if speaks else set(OF_SPEECH)
        if not self.many_speakers:
            self._lacking |= {*OF_TWO_SPEAKERS, "speakers"}
        if not dubs:
            self._lacking.update(OF_DUBBING, [ONLY_VIDEOS])
        if not extends:
            self._lacking.add("use_prompt_extend")
        optional = [each for each in FIELDS if each.setting and self._option(each) is None]
        self._lacking |= {each.name for each in optional}
        if self.table.motion_frames is not None:
            self._lacking.discard("motion_frames")
        if "seconds" not in settings:
            self._lacking |= set(_LIMITS)
        if "size" not in settings:
            self._lacking |= set(_SIDES)

    def _option(self, each: Field) -> Option | None:
        return self._settings.get(self.table.option(each.name)) if each.setting else None

    def _served(self, each: Field) -> Field:
        """The field with what the server's own options say, and the model's."""
        if each.name == "seconds":
            return replace(each, most=self._options.max_sound_seconds)
        option = self._option(each)
        if option is None or (each.least, each.most, each.above) != (None, None, None):
            return each
        return replace(each, least=option.least, most=option.most, above=option.above)

    @property
    def names(self) -> dict[str, str]:
        """The fields by option, for messages."""
        found = {self.table.option(name): name for name in ("seconds", "size", "seed")}
        for option, value in self.table.files("input_reference", [_NAMED]).items():
            found[option] = value if isinstance(value, str) else value[0]
        return found | {option.name: each.name for each in FIELDS if (option := self._option(each))}

    def has(self, name: str) -> bool:
        """Whether requests may have a field of that name."""
        each = self._known.get(name)
        return each is not None and each.name not in self._lacking

    def read(self, form: Form) -> VideoRequest:
        """What a form asks for.

        Raises:
          Fault: a field is unknown, missing, or its value cannot be.
        """
        self._check_names(form)
        asked = VideoRequest()
        given: dict[str, Any] = {}
        for name, value in form.values.items():
            each = self._known[name]
            if each.name in asked.params:
                both = f"{asked.params[each.name]}, {name}: are one field; give one of them"
                raise Fault("mutually_exclusive_parameters", both, name)
            given[each.name], asked.params[each.name] = value, form.shown.get(name, name)
        for name in ("prompt", "input_reference"):
            if name not in asked.params:
                raise Fault("missing_required_parameter", f"{name}: is missing; give it", name)
        self._check_sounds(asked)
        for each in FIELDS:
            if each.name in asked.params:
                self._take(each, given[each.name], asked)
        self._check_together(asked)
        return asked

    def _check_names(self, form: Form) -> None:
        for name in form.values:
            each = self._known.get(name)
            lacking = name in self._lacking or (each is not None and each.name in self._lacking)
            if lacking or name in OF_OTHERS or name.startswith(OF_OTHERS_BEGIN):
                raise Fault("unsupported_parameter", f"{said(name)}: this model or server does not have it", said(name))
            if each is None:
                near = difflib.get_close_matches(name, self._known, n=1)
                hint = f"did you mean {near[0]}?" if near else "see docs/serving.md"
                raise Fault("unknown_parameter", f"{said(name)}: no such field; {hint}", said(name))

    def _check_sounds(self, asked: VideoRequest) -> None:
        """Raises:
        Fault: what is spoken is given twice.
        """
        ways = [name for name in ("audio_reference", "tts_text", "speakers") if name in asked.params]
        if len(ways) > 1:
            raise Fault(
                "mutually_exclusive_parameters", f"{' and '.join(ways)}: give one of them", asked.param(ways[1])
            )
        if "speakers" in asked.params:
            for name in OF_TWO_SPEAKERS:
                if name in asked.params:
                    raise Fault("mutually_exclusive_parameters", f"{name}: is part of speakers", asked.param(name))
        for name in ("tts_voice", "tts_speed", "tts_voice_2"):
            if name in asked.params and "tts_text" not in asked.params:
                param = asked.param(name)
                raise Fault("missing_required_parameter", f"tts_text: is missing; {param} needs it", "tts_text")
        if "audio_reference_2" in asked.params and "audio_reference" not in asked.params:
            raise Fault("missing_required_parameter", "audio_reference: is missing; give it", "audio_reference")

    def _take(self, each: Field, given: Any, asked: VideoRequest) -> None:
        param = asked.param(each.name)
        if each.kind == "reference" or each.name == "speakers":
            asked.files[each.name] = given
            return
        if each.name == "bbox" and isinstance(given, dict):
            asked.values[each.name] = given
            return
        value = value_of(self._known[each.name], given, param)
        option = self._option(each)
        if option and option.choices and value not in option.choices:
            raise Fault("invalid_value", f"{param}: {said(value)}: give {', '.join(option.choices)}", param)
        if each.name == "size_bucket" and value not in self.buckets:
            raise Fault("invalid_value", f"{param}: {said(value)}: give {', '.join(self.buckets)}", param)
        if each.name == "motion_frames" and option is None and value != (always := self.table.motion_frames):
            raise Fault("unsupported_parameter", f"{param}: this model has {always} always", param)
        asked.values[each.name] = value

    def _check_together(self, asked: VideoRequest) -> None:
        values = asked.values
        if "width" in values or "height" in values:
            if "size" in values:
                raise Fault("mutually_exclusive_parameters", "size, width: give size alone", asked.param("width"))
            for one in _SIDES:
                if one not in values:
                    raise Fault("missing_required_parameter", f"{one}: is missing; give width and height", one)
            values["size"] = f"{values.pop('width')}x{values.pop('height')}"
            asked.params["size"] = "width"
        if "size" in values:
            self._settle_size(asked)

    def _settle_size(self, asked: VideoRequest) -> None:
        """Have `size` and `size_bucket` say which size of which table is meant."""
        size, param = asked.values["size"].lower(), asked.param("size")
        if "size" not in self._settings and size != buckets.AUTO:
            raise Fault("invalid_value", f"{param}: {said(size)}: give {buckets.AUTO}, all this model has", param)
        if size == buckets.AUTO or not self.buckets:
            asked.values["size"] = size
            return
        usual = asked.values.get("size_bucket", self.buckets[0])
        for bucket in dict.fromkeys((usual, *self.buckets)):
            if size in sizes_of(bucket):
                asked.values.update(size=size, size_bucket=bucket)
                return
        if size not in buckets.OPENAI_SIZES:
            such = ", ".join(sizes_of(usual))
            raise Fault("invalid_value", f"{param}: {said(size)}: give auto, or one of {such}", param)
        asked.values.update(size=size, size_bucket=usual)

    def check_picture(self, asked: VideoRequest) -> None:
        """Raises:
        Fault: with a picture, something was asked that only a video to dub has, or no sound was given.
        """
        for name in OF_DUBBING:
            if name in asked.params:
                param = asked.param(name)
                raise Fault("unsupported_parameter", f"{param}: is of a video to dub, and this is a picture", param)
        if not asked.params.keys() & {"audio_reference", "tts_text", "speakers"}:
            raise Fault("missing_required_parameter", "audio_reference: is missing; give a sound", "audio_reference")

    def settings(self, asked: VideoRequest) -> dict[str, Any]:
        """The settings of the job by option: the server's, and over them the request's."""
        made = {name: value for name, value in self._defaults.items() if name in self._settings}
        made.pop("base_seed", None)
        for each in FIELDS:
            option = self._option(each)
            if option is not None and each.name in asked.values:
                made[option.name] = asked.values[each.name]
        if "size" in self._settings and asked.values.keys() & {"size", "size_bucket"}:
            made["size"] = asked.values.get("size", buckets.AUTO)  # the server's own may be none of that table's
        limits = [asked.values[name] / (1 if name == "seconds" else FPS) for name in _LIMITS if name in asked.values]
        if limits:
            made["seconds"] = min(limits)
        if (seed := asked.values.get("seed", -1)) != -1:
            made["base_seed"] = seed
        return made

    def capabilities(self) -> dict[str, Any]:
        """What can be asked for, by field."""
        found = {}
        for each in FIELDS:
            option = self._option(each)
            if each.name in self._lacking or (option is None and each.name not in (*_LIMITS, "size", "seed")):
                continue
            default = None if option is None or option.required else option.default
            if option is not None and option.name != "base_seed":
                default = self._defaults.get(option.name, default)
            served = self._known[each.name]
            choices = list(option.choices) if option and option.choices else None
            if each.name == "size_bucket":
                choices, default = list(self.buckets), self.buckets[0]
            if each.name == "size":
                default = self._defaults.get("size", buckets.AUTO)
                choices = None if "size" in self._settings else [buckets.AUTO]
            numeric = each.kind in ("integer", "number", "seconds")
            found[each.name] = {
                "type": JSON_TYPES.get(each.kind, each.kind),
                "default": default,
                "minimum": (served.least if served.above is None else served.above) if numeric else None,
                "maximum": served.most if numeric else None,
                "enum": choices,
                "description": option.help if option else None,
            }
        return found


def sizes_of(bucket: str) -> list[str]:
    """The sizes of a table as WIDTHxHEIGHT; that which documentation speaks of comes first."""
    return [f"{width}x{height}" for height, width in buckets.sizes(bucket)]
