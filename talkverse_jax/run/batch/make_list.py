"""The list of a batch, made from pictures and sounds.

Pictures (or videos to dub) and sounds of the same name belong together, also where an accent is a character of its own
in one of them, as macOS writes names; Ann and ann are two names. Where one side is a single file, it goes with every
file of the other. The text file NAME.txt beside a picture is its prompt.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import check_apart, expanded, on_disk, replacing, same_name
from talkverse_jax.core.text import is_text, read_text
from talkverse_jax.pipeline import registry

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".avif"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".flv", ".wmv"}
SOUNDS = {".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac"}
_MOST = 2**20  # bytes of a prompt's file


def list_batch(
    pictures: str, sounds: str, prompt: str | None, output: str, family: str = registry.DEFAULT
) -> list[dict[str, Any]]:
    """The items, one for each pair, in order of their names; their paths start from the list's folder.

    Args:
      family: that makes the videos.

    Raises:
      UserError: a folder is empty, names have no partner or stand for two files, a prompt is missing, or the list would
        take the place of one of these files.
    """
    seen, heard = _files(pictures, PICTURES | VIDEOS, "pictures"), _files(sounds, SOUNDS | VIDEOS, "sounds")
    if len(seen) == 1 and _place(pictures).is_file():
        [picture] = seen.values()
        pairs = {sound.stem: (picture, sound) for sound in heard.values()}
    elif len(heard) == 1 and _place(sounds).is_file():
        [sound] = heard.values()
        pairs = {picture.stem: (picture, sound) for picture in seen.values()}
    else:
        if alone := sorted(seen.keys() ^ heard.keys()):
            shown = ", ".join(alone[:5]) + ", ..." * (len(alone) > 5)
            one_case = len({name.casefold() for name in alone}) == len(alone)
            remedy = "rename them, or give one file for all" if one_case else "write them in the same case"
            raise UserError(f"{len(alone)} without a partner of the same name: {shown}; {remedy}")
        pairs = {picture.stem: (picture, heard[name]) for name, picture in seen.items()}
    read = [(what, path) for pair in pairs.values() for what, path in zip(("--pictures", "--sounds"), pair)]
    read += [("the prompt", picture.with_suffix(".txt")) for picture, _ in pairs.values()]
    check_apart([Path(output)], read, "give another --output")
    base, of_person = Path(output).absolute().parent, registry.settings_of(family).of_person
    items = []
    for name, pair in sorted(pairs.items()):
        picture, sound = (os.path.relpath(path.absolute(), base) for path in pair)
        items.append({"id": name, **of_person(picture, sound, _prompt(pair[0], prompt))})
    return items


def _place(given: str) -> Path:
    return on_disk(expanded(given))


def _files(given: str, kinds: set[str], what: str) -> dict[str, Path]:
    """The files of a folder, or one, by the form of their names in which these are compared."""
    place = _place(given)
    if not place.exists():
        raise UserError(f"{given}: no such file or folder; give the {what}")
    inside = sorted(place.iterdir()) if place.is_dir() else [place]
    files = [file for file in inside if file.suffix.lower() in kinds and not file.name.startswith(".")]
    if not files:
        raise UserError(f"{given}: no {what} in it ({' '.join(sorted(kinds))})")
    found: dict[str, Path] = {}
    for file in files:
        if not is_text(str(file)):
            raise UserError(f"{str(file)!r}: a name that is not UTF-8; rename it")
        if other := found.get(name := same_name(file.stem)):
            raise UserError(f"{file}: {other.name} has that name too; keep one of them")
        found[name] = file
    return found


def _prompt(picture: Path, prompt: str | None) -> str:
    own = on_disk(picture.with_suffix(".txt"))
    if own.is_file():
        if text := read_text(own, "the picture's prompt", _MOST).strip():
            return text
        raise UserError(f"{own}: is empty; write the picture's prompt there, or remove it and give --prompt")
    if prompt is None:
        raise UserError(f"{own}: no such file; write the picture's prompt there, or give --prompt for all")
    return prompt


def write_list(items: Sequence[Mapping[str, Any]], output: str) -> None:
    """Write the list, an item a line."""
    target = Path(output)
    with naming(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        partial.write_text(lines, encoding="utf-8")
