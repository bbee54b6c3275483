"""Items of a batch whose prompt is improved, or whose text is spoken, before their jobs are made.

Of all workers that ask for an item, the first to note what it was given decides (`.helped/ID.json`, with its sounds
beside it under names of their contents); the others take that. `ID.speech.wav` stays beside the video, whose record
tells the same, and the note goes when the video is made.
"""

import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import json_text
from talkverse_jax.helpers.errors import UpstreamError
from talkverse_jax.helpers.options import GROUPS, OF_A_VIDEO
from talkverse_jax.helpers.video_help import VideoHelp, Wish, differing
from talkverse_jax.pipeline.roles import Roles
from talkverse_jax.run.batch.store import Store

NOTES = ".helped"

_OF_SPEECH = ("enable_tts", "tts_text", "tts_prompt_audio", "tts_prompt_text")
_MOST_FAILURES = 3  # one after the other, of endpoints; then nobody is asked any more


class ItemHelp:
    """Gives items help."""

    def __init__(self, store: Callable[[], Store], helpers: VideoHelp, usual: Mapping[str, Any], roles: Roles):
        """
        Args:
          store: opens the batch's folder.
          usual: values of `helpers.options.GROUPS` that hold where an item has no other.
        """
        self._open, self._helpers, self._usual, self._roles = store, helpers, dict(usual), roles
        self._failed: list[str] = []

    def wanted(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], Wish | None]:
        """An item's values without those that are for helpers, and what it wants of them.

        Raises:
          UserError: what it wants does not go together.
        """
        own = {name: value for name, value in values.items() if name in OF_A_VIDEO}
        rest = {name: value for name, value in values.items() if name not in OF_A_VIDEO}
        asked, roles = self._usual | own, self._roles
        if rest.get(roles.sound):
            if own.get("tts_text"):
                raise UserError(f"is given, and {roles.sound} too; give one of them", field="tts_text", where="item")
            asked = {name: value for name, value in asked.items() if name not in _OF_SPEECH}
        picture, prompt = (rest.get(name, "") for name in (roles.picture, roles.prompt))
        wanted = Wish(picture, prompt, roles.people, **options.build(GROUPS, asked, "item"))
        return rest, wanted if wanted.anything else None

    def standing_in(self, wanted: Wish) -> dict[str, Any]:
        """What stands for a sound while an item's other options are checked."""
        return self._roles.sounds(["speech"]) if wanted.help.tts_text is not None else {}

    def give(self, name: str, wanted: Wish) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the helpers give an item, by the names of its options, and the note of how they made it.

        Raises:
          UserError: they cannot, or another wish of it was granted before.
        """
        note = self._note(name) or self._made(name, wanted)
        if other := differing(wanted.told, note["asked"]):
            files = f"{name}.mp4, {name}.json, {name}.speech.wav and {NOTES}/{name}.json"
            raise UserError(f"{other}; delete {files} to have it made again, or give the item another id")
        values = {self._roles.prompt: note["prompt"]} if "prompt" in note else {}
        paths = [digest and self._placed(name, one, digest) for one, digest in enumerate(note.get("sounds", ()))]
        return values | (self._roles.sounds(paths) if paths else {}), note

    def close(self) -> None:
        """End the helpers, until they are asked again."""
        self._helpers.__exit__()

    @functools.cached_property
    def _store(self) -> Store:
        store = self._open()
        store.work = NOTES
        return store

    @functools.cached_property
    def _local(self) -> tempfile.TemporaryDirectory[str]:
        """For sounds of a bucket; it is removed with this."""
        return tempfile.TemporaryDirectory(prefix="talkverse_jax_")

    def _note(self, name: str) -> dict[str, Any] | None:
        """What was noted of an item. The record takes the place of the note, so it is looked at behind it too."""
        for file, key in ((f"{name}.json", "helpers"), (f"{NOTES}/{name}.json", None), (f"{name}.json", "helpers")):
            found = _object(self._store.read(file))
            found = found.get(key) if key else found
            if isinstance(found, dict) and isinstance(found.get("asked"), dict):
                return found
        return None

    def _made(self, name: str, wanted: Wish) -> dict[str, Any]:
        if len(self._failed) >= _MOST_FAILURES:
            raise UserError(f"not asked, as {_MOST_FAILURES} others had no answer ({self._failed[-1]})")
        try:
            made = self._helpers.help(wanted)
        except UpstreamError as error:
            self._failed.append(str(error))
            raise
        self._failed.clear()
        for sound in filter(None, made.sounds):
            self._store.write(_sound(name, hashlib.sha256(sound).hexdigest()), sound)
        if self._store.create(f"{NOTES}/{name}.json", json_text(made.note).encode()):
            return made.note
        note = self._note(name)  # another worker's, which came first
        assert note is not None
        return note

    def _placed(self, name: str, one: int, digest: str) -> str:
        """The path on this machine of what a speaker says."""
        file = f"{name}.speech{f'_{one + 1}' if one else ''}.wav"
        data = self._store.read(file)
        if data is None and (data := self._store.read(_sound(name, digest))) is not None:
            self._store.write(file, data)
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            what = "is missing; put it back" if data is None else "is not what was spoken for it; delete it"
            raise UserError(f"{file}: {what}, or delete {name}.mp4 and {name}.json to have it made again")
        if (path := self._store.local(file)) is not None:
            return str(path)
        path = Path(self._local.name) / f"{digest}.wav"
        path.write_bytes(data)
        return str(path)


def tidy(store: Store, done: Iterable[str]) -> None:
    """Remove the notes of items that are made by now, and the folder with the last."""
    if not (names := store.names(NOTES)):
        return
    whose = {name: re.sub(r"\.(json|[0-9a-f]{12}\.wav)$", "", name) for name in names}
    gone = {name for name in names if whose[name] in set(done)}
    for name in gone:
        store.remove(f"{NOTES}/{name}")
    if not set(names) - gone - {"new"}:
        store.remove(NOTES)


def _sound(name: str, digest: str) -> str:
    return f"{NOTES}/{name}.{digest[:12]}.wav"


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
