"""The JSON file of a video: the originals' keys, or our options with a list of people. Imports no JAX.

{"prompt": "...", "image": "two.png", "people": [{"audio": "a.wav", "bbox": [160, 120, 1280, 1080]},
                                                 {"audio": "b.wav", "mask": "right.png"}]}
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from talkverse_jax.core import strict_json
from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.files import exists, is_remote, join
from talkverse_jax.core.options import NO_FILE
from talkverse_jax.core.text import read_text

_THEIRS = ("cond_image", "cond_video", "cond_audio", "tts_audio")
_PATHS = ("image", "audio", "mask")
_OF_A_PERSON = ("audio", "bbox", "mask")
_MOST = 2**20  # bytes


def read_input_json(path: str) -> dict[str, Any]:
    """The options that the file gives, by name; paths start from its folder where that has such a file.

    Raises:
      UserError: there is no such file, it is no JSON, or what it asks for cannot be made.
    """
    given = _translated(path)
    return given | {name: _each(given[name], lambda one: _placed(path, one)[0]) for name in _PATHS if name in given}


def notices(path: str) -> tuple[str, ...]:
    """What is assumed of the file's paths, for the person."""
    given = _translated(path)
    below = [one for name in _PATHS for one in _listed(given.get(name)) if _placed(path, one)[1]]
    if not below:
        return ()
    return (f"{path}: {', '.join(below)}: taken from the current folder; beside the file there is none",)


def _translated(path: str) -> dict[str, Any]:
    """Our options, with paths as they stand in the file."""
    values = strict_json.loads(read_text(path, "one video's JSON", _MOST), path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: {brief(values)}: no object; give prompt, image and people by their names")
    if values.get("tts_audio"):
        raise UserError(f"{path}: tts_audio: give its text as --tts_text, its voices as --tts_voice and --tts_voice_2")
    if "input_json" in values:
        raise UserError(f"{path}: input_json: a file names no other; give the options themselves")
    made = {key: value for key, value in values.items() if key not in (*_THEIRS, "people")}
    if isinstance(values.get("bbox"), dict):  # in their order in the file, whatever their keys
        made["bbox"] = list(values["bbox"].values())
    for key in ("cond_image", "cond_video"):
        if key in values:
            _give(path, made, key, "image", values[key])
    if "cond_audio" in values:
        _give(path, made, "cond_audio", "audio", _by_person(path, values["cond_audio"]))
    if "people" in values:
        for name, each in _of_people(path, values["people"]).items():
            _give(path, made, "people", name, each)
    for name in ("audio", "mask"):
        if name in made:
            made[name] = [_file(path, name, one) for one in _listed(made[name])]
    if "bbox" in made:
        made["bbox"] = [_box(path, one) for one in _listed(made["bbox"])]
    return made


def _give(path: str, made: dict[str, Any], key: str, name: str, value: Any) -> None:
    if name in made:
        raise UserError(f"{path}: {key}: says again what {name} is; give it once")
    made[name] = value


def _by_person(path: str, sounds: Any) -> list[Any]:
    """The sounds of `{"person1": ..., "person2": ...}`."""
    names = [f"person{number}" for number in range(1, 1 + len(sounds))] if isinstance(sounds, dict) else []
    if not names or set(names) != sounds.keys():
        raise UserError(f"{path}: cond_audio: {brief(sounds)}: give sounds by the names person1, person2")
    return [sounds[name] for name in names]


def _of_people(path: str, people: Any) -> dict[str, list[Any]]:
    """The lists that a list of people makes; those of which nobody has anything are left out."""
    if not isinstance(people, list) or not people or not all(isinstance(one, dict) for one in people):
        raise UserError(f'{path}: people: {brief(people)}: give a list such as [{{"audio": "a.wav", "mask": "a.png"}}]')
    for number, one in enumerate(people, 1):
        if other := one.keys() - set(_OF_A_PERSON):
            raise UserError(f"{path}: people: person {number}: unknown key {brief(min(other))}; give audio, bbox, mask")
        if "audio" not in one:
            raise UserError(
                f"{path}: people: person {number}: no audio; give a sound, or null for one who says nothing"
            )
    lists = {name: [one.get(name) for one in people] for name in _OF_A_PERSON}
    return {name: each for name, each in lists.items() if name == "audio" or any(one is not None for one in each)}


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else [value]


def _file(path: str, name: str, value: Any) -> str:
    """A path, or that there is none."""
    if value is None or isinstance(value, str) and value.lower() == NO_FILE:
        return NO_FILE
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}: {name}: {brief(value)}: give a path, or null where there is none")
    return value


def _box(path: str, value: Any) -> str:
    """A box as the option has it."""
    if value is None:
        return NO_FILE
    if isinstance(value, str):
        return value
    try:
        top, left, bottom, right = map(int, value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: bbox: {brief(value)}: give [top, left, bottom, right] in pixels") from None
    return f"{top},{left},{bottom},{right}"


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _placed(path: str, value: Any) -> tuple[Any, bool]:
    """A file's path, and whether it starts from the current folder for want of one beside the JSON."""
    if not isinstance(value, str) or value == NO_FILE or is_remote(value) or Path(value).expanduser().is_absolute():
        return value, False
    if exists(beside := join(str(Path(path).parent), value)):
        return beside, False
    if not exists(value):
        raise UserError(f"{path}: {value}: no such file, neither beside it nor in the current folder")
    return value, True
