"""The list of a batch, made from pictures and sounds.

Pictures (or videos to dub) and sounds of the same name belong together. Where one side is a single file, it goes with
every file of the other. The text file NAME.txt beside a picture is its prompt.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import replacing
from talkverse_jax.pipeline import registry

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".avif"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".flv", ".wmv"}
SOUNDS = {".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac"}


def list_batch(
    pictures: str, sounds: str, prompt: str | None, output: str, family: str = registry.DEFAULT
) -> list[dict[str, Any]]:
    """The items, one for each pair, in order of their names; their paths start from the list's folder.

    Args:
      family: that makes the videos.

    Raises:
      UserError: a folder is empty, names have no partner or stand for two files, or a prompt is missing.
    """
    seen, heard = _files(pictures, PICTURES | VIDEOS, "pictures"), _files(sounds, SOUNDS | VIDEOS, "sounds")
    if len(seen) == 1 and Path(pictures).is_file():
        pairs = {name: (next(iter(seen.values())), sound) for name, sound in heard.items()}
    elif len(heard) == 1 and Path(sounds).is_file():
        pairs = {name: (picture, next(iter(heard.values()))) for name, picture in seen.items()}
    else:
        alone = sorted(seen.keys() ^ heard.keys())
        if alone:
            shown = ", ".join(alone[:5]) + ", ..." * (len(alone) > 5)
            raise UserError(
                f"{len(alone)} without a partner of the same name: {shown}; rename them, or give one file for all"
            )
        pairs = {name: (seen[name], heard[name]) for name in seen}
    base, of_person = Path(output).absolute().parent, registry.settings_of(family).of_person
    items = []
    for name, pair in sorted(pairs.items()):
        picture, sound = (os.path.relpath(path.absolute(), base) for path in pair)
        items.append({"id": name, **of_person(picture, sound, _prompt(pair[0], prompt))})
    return items


def _files(given: str, kinds: set[str], what: str) -> dict[str, Path]:
    place = Path(given).expanduser()
    if not place.exists():
        raise UserError(f"{given}: no such file or folder; give the {what}")
    inside = sorted(place.iterdir()) if place.is_dir() else [place]
    files = [file for file in inside if file.suffix.lower() in kinds and not file.name.startswith(".")]
    if not files:
        raise UserError(f"{given}: no {what} in it ({' '.join(sorted(kinds))})")
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise UserError(f"{file}: {found[file.stem].name} has that name too; keep one of them")
        found[file.stem] = file
    return found


def _prompt(picture: Path, prompt: str | None) -> str:
    own = picture.with_suffix(".txt")
    if own.is_file():
        return own.read_text(encoding="utf-8").strip()
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
