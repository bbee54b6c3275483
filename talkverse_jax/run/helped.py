"""A single video whose prompt is improved, or whose text is spoken, before its job is made.

`NAME.speech.wav` (of a second speaker `NAME.speech_2.wav`) stays beside the video, and its record tells how it was
made. Until there is a record, `NAME.partial.json` does: with `resume`, what it tells of is used, and nobody is asked
again. It is written first, so that a sound that stands there is known to be ours.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.lock import locked
from talkverse_jax.core.paths import check_apart, is_plain, partial_of, replacing, write_json
from talkverse_jax.helpers.video_help import VideoHelp, Wish, differing
from talkverse_jax.pipeline.roles import Roles
from talkverse_jax.run.output import check_name
from talkverse_jax.run.record import check_record, read_record, record_file
from talkverse_jax.run.resume import note_file
from talkverse_jax.sharding.distributed import from_main, is_main

_MOST = 2**20  # bytes of a note
_REMEDY = "give another --output"


@contextmanager
def helped(
    video: str, wanted: Wish, helpers: VideoHelp, roles: Roles, read: Iterable[tuple[str, str | Path]], resume: bool
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The options that helpers give a video, by name, and the note of how they were made. Until the block ends no other
    run for that video gets help.

    Args:
      video: the file to be made.
      read: what the run reads, as of `check_apart`; none of it is written over.
      helpers: closed when they have given it.
      resume: use what an earlier run of the same wish was given.

    Raises:
      UserError: a helper cannot give it, another wish was granted before, or a sound's name is taken.
    """
    output = check_name(video)
    if not is_main():
        note = json.loads(from_main("helped", ""))
        yield _options(output, note, roles), note
        return
    check_record(record_file(output))
    lock = output.with_name(f".{output.stem}.helped.lock")
    with locked(lock, f"{output}: another run is making it; wait for it, or {_REMEDY}"):
        note = _note(output, wanted) if resume else None
        if note is None:
            note = _made(output, wanted, helpers, read)
        from_main("helped", json.dumps(note))
        yield _options(output, note, roles), note


def speech_file(output: Path, speaker: int) -> Path:
    """Where the sound of a speaker, counted from 0, is kept."""
    return output.with_name(f"{output.stem}.speech{f'_{speaker + 1}' if speaker else ''}.wav")


def _note(output: Path, wanted: Wish) -> dict[str, Any] | None:
    """What an earlier run was given; None where there is none, or its sounds are not there yet."""
    for path, note in _notes(output):
        if other := differing(wanted.told, note["asked"]):
            raise UserError(f"{path}: of another video: {other}; give the same, or leave out --resume")
        if all(not digest or speech_file(output, one).exists() for one, digest in _sounds(note)):
            return note
    return None


def _notes(output: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Notes of earlier runs, the latest first, each with its file."""
    path = note_file(output)
    if is_plain(path) and path.stat().st_size <= _MOST:
        try:
            note = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            note = None
        if isinstance(note, dict) and isinstance(note.get("asked"), dict):
            yield path, note
    record = read_record(record_file(output))
    if record and isinstance(note := record.get("helpers"), dict) and isinstance(note.get("asked"), dict):
        yield record_file(output), note


def _made(output: Path, wanted: Wish, helpers: VideoHelp, read: Iterable[tuple[str, str | Path]]) -> dict[str, Any]:
    files = [speech_file(output, one) for one in range(wanted.people)] if wanted.help.tts_text else []
    written = [note_file(output), *files]
    check_apart([*written, *map(partial_of, written)], read, _REMEDY)
    known = {digest for _, note in _notes(output) for _, digest in _sounds(note)}
    for file in files:
        if file.exists() and (not is_plain(file) or _digest(file) not in known):
            raise UserError(f"{file}: stands where the speech goes; move it away, or {_REMEDY}")
    with helpers:
        made = helpers.help(wanted)
    with naming(note_file(output)):
        write_json(note_file(output), made.note)
    for file, sound in itertools.zip_longest(files, made.sounds):
        if sound:
            with replacing(file) as partial:
                partial.write_bytes(sound)
        else:  # of an older run with more speakers
            file.unlink(missing_ok=True)
    return made.note


def _options(output: Path, note: dict[str, Any], roles: Roles) -> dict[str, Any]:
    """What the note says, as options.

    Raises:
      UserError: a sound is another than the video was begun with.
    """
    options = {roles.prompt: note["prompt"]} if "prompt" in note else {}
    paths: list[str | None] = []
    for one, digest in _sounds(note):
        file = speech_file(output, one)
        if digest and (not is_plain(file) or _digest(file) != digest):
            raise UserError(f"{file}: is not what was spoken for the video; put it back, or leave out --resume")
        paths.append(str(file) if digest else None)
    return options | (roles.sounds(paths) if paths else {})


def _sounds(note: dict[str, Any]) -> list[tuple[int, str | None]]:
    """Speakers, counted from 0, and the SHA-256 of what each says."""
    return list(enumerate(note.get("sounds", ())))


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
