"""Makes the list of a batch from pictures and sounds:

    python -m talkverse_jax.run.batch.make_list --pictures DIR --sounds DIR --prompt TEXT --output list.jsonl
    python sample.py --batch list.jsonl --output_dir DIR ...

Pictures (or videos to dub) and sounds of the same name belong together; where one side is a single file, all of the
other are its partners. NAME.txt beside a picture is its prompt.
"""

import json
import os
import sys
from pathlib import Path

from talkverse_jax.core.errors import UserError, naming, run_command
from talkverse_jax.core.options import CommandParser, path
from talkverse_jax.core.paths import replacing

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".avif"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".flv", ".wmv"}
SOUNDS = {".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac"}


def list_batch(pictures: str, sounds: str, prompt: str | None, output: str) -> list[dict[str, str]]:
    """The items, one for each pair, in order of their names; paths are relative to the list.

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
                f"{len(alone)} without a partner of the same name: {shown}; mend the names, or give one file for all"
            )
        pairs = {name: (seen[name], heard[name]) for name in seen}
    base = Path(output).absolute().parent
    return [
        {
            "id": name,
            "image": os.path.relpath(picture.absolute(), base),
            "audio": os.path.relpath(sound.absolute(), base),
            "prompt": _prompt(picture, prompt),
        }
        for name, (picture, sound) in sorted(pairs.items())
    ]


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


def main(argv: list[str] | None = None) -> None:
    parser = CommandParser(prog="talkverse_jax.run.batch.make_list", description="Make the list of a batch.")
    parser.add_argument(
        "--pictures", type=path, required=True, metavar="DIR", help="folder of pictures or videos, or one file"
    )
    parser.add_argument(
        "--sounds", type=path, required=True, metavar="DIR", help="folder of sounds, or one file for all"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="of those that have no NAME.txt beside them")
    parser.add_argument("--output", type=path, required=True, metavar="FILE", help="the list, JSON lines")
    given = parser.parse_args(argv)
    items = list_batch(given.pictures, given.sounds, given.prompt, given.output)
    target = Path(given.output)
    with naming(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        partial.write_text(lines, encoding="utf-8")
    print(f"{len(items)} videos in {given.output}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
