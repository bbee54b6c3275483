"""From a request for a video to a job on the disk; a request that is refused leaves nothing there."""

import asyncio
import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.job import digest
from talkverse_jax.serve.http.errors import Fault, of_disk, refused_option
from talkverse_jax.serve.http.fields import VideoRequest
from talkverse_jax.serve.http.forms import Form, remove
from talkverse_jax.serve.http.helping import RequestHelpers
from talkverse_jax.serve.http.inputs import OWN_SOUND, JobFiles, Looker, speaking, wanted
from talkverse_jax.serve.http.inputs_object import inputs_object
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.jobs.job import Deleted, Record, Submission, new_id
from talkverse_jax.serve.jobs.walls import machine_walls

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Translate = Callable[[Form], tuple[Form, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Admitted:
    """A job that a request made, or made before.

    Attributes:
      replayed: it was there, by the request's idempotency key.
    """

    record: Record
    replayed: bool = False


class Admission:
    """Admits jobs of a server."""

    def __init__(self, setup: Setup, looker: Looker, helpers: RequestHelpers):
        self._setup, self._looker, self._helpers = setup, looker, helpers

    async def submit(
        self, request: Request, owner: str, kinds: tuple[str, ...] = (), translate: Translate | None = None
    ) -> Admitted:
        """Admit the job of a request, or find the one of its idempotency key.

        Args:
          kinds: content types; by default both.
          translate: another program's form into ours, and notices.

        Raises:
          Fault, Refused: it is not admitted.
          ClientGone: it ended before its end.
        """
        kind = self._setup.bodies.kind(request, *kinds)
        key = request.headers.get("idempotency-key") if translate is None else None
        if key is not None and not _KEY.fullmatch(key):
            raise Fault("invalid_value", "Idempotency-Key: give 1 to 255 visible ASCII characters")
        jobs, job = self._setup.jobs, new_id()
        known = key is not None and await asyncio.to_thread(jobs.reserve, owner, key)
        folder = None
        try:
            if not known:
                await asyncio.to_thread(jobs.check_room, owner)
            folder = await asyncio.to_thread(jobs.folder, job)
            bodies = folder / "bodies"
            await asyncio.to_thread(bodies.mkdir)
            async with self._setup.bodies.read(request, kind, bodies) as form:
                form, notices = translate(form) if translate else (form, ())
                asked = self._setup.fields.read(form)
                settings = self.checked(asked)
                inputs = await self._inputs(asked, folder)
            del form
            await asyncio.to_thread(remove, bodies)
            told = request_digest(asked, inputs)
            if key is not None and (found := await asyncio.to_thread(jobs.idempotent, owner, key, told)):
                if isinstance(found, Deleted):
                    raise Fault("video_not_found", "the video of this Idempotency-Key was deleted; take a new key")
                return Admitted(found, replayed=True)
            submission = await self._submission(job, owner, folder, asked, settings, inputs, notices)
            submission = dataclasses.replace(submission, key=key, digest=told if key else None)
            admitted = Admitted(await asyncio.to_thread(jobs.admit, submission))
            folder = None
            return admitted
        except OSError as error:
            raise of_disk(error) from None
        finally:
            if folder is not None:
                await asyncio.to_thread(jobs.refuse, job)
            if key is not None and not known:
                await asyncio.to_thread(jobs.release, owner, key)

    def checked(self, asked: VideoRequest) -> dict[str, Any]:
        """The family's settings that are asked for, as far as they can be checked by themselves."""
        fields = self._setup.fields
        if (name := asked.values.get("model")) is not None and name not in self._setup.names:
            raise Fault("model_not_found", f"there is no such model; give {self._setup.names[0]}", asked.param("model"))
        settings = fields.settings(asked)
        groups = {"settings": registry.settings_of(self._setup.family).Settings}
        try:
            build(groups, settings, "request")
        except UserError as error:
            raise refused_option(error, fields.names | _as_sent(asked, fields.names)) from None
        return settings

    async def _inputs(self, asked: VideoRequest, folder: Path) -> JobFiles:
        """The files of a request, all looked at."""
        files, facts = {}, {}
        brought, people = wanted(asked, self._setup.fields.dubs)
        for each in brought:
            files[each.name], facts[each.name] = await self._looker.take(each, folder)
            if each.name == "image" and files["image"].kind == "picture":
                self._setup.fields.check_picture(asked)
        inputs = JobFiles(files, facts, people)
        if inputs.is_film and len(files) == 1 and "tts_text" not in asked.values:
            param = files["image"].param
            if not facts["image"]["has_sound"]:
                raise Fault("unusable_media", f"{param}: has no sound of its own; give audio_reference", param)
            since = {"since": facts["image"]["start"]}
            facts[OWN_SOUND] = await self._looker.look(folder, "image", param, "sound", **since)
        return inputs

    async def _submission(
        self,
        job: str,
        owner: str,
        folder: Path,
        asked: VideoRequest,
        settings: dict[str, Any],
        inputs: JobFiles,
        notices: tuple[str, ...],
    ) -> Submission:
        """The job, with what the helpers make for it, and what video it will be."""
        more: dict[str, Any] = {}
        prompt = original = asked.values["prompt"]
        if asked.values.get("use_prompt_extend"):
            better = await self._helpers.enhance(prompt, folder, "image")
            prompt = settings["prompt"] = better.prompt
            more["prompt_extend_model"] = better.model
            more["prompt_extend_target_lang"] = better.lang
            more["prompt_extend_instruction"] = better.instruction
        people = inputs.people
        if "tts_text" in asked.values:
            sounds, spoken = await self._speak(asked, folder, inputs)
            people = speaking(sounds, [person.bbox for person in people])
            more |= spoken
        files = self._setup.fields.table.files("image", people)
        settings.setdefault("base_seed", random.SystemRandom().randrange(2**31))
        plan = await self._plan(asked, folder, files, settings)
        values = asked.values
        return Submission(
            id=job,
            owner=owner,
            folder=folder,
            family=self._setup.family,
            model=self._setup.names[0],
            files=files,
            settings=self._effective(settings) | more | machine_walls(self._setup.options),
            inputs=inputs_object(inputs, people),
            prompt=prompt,
            original_prompt=original if values.get("use_prompt_extend") else None,
            size=f"{plan['width']}x{plan['height']}",
            num_frames=plan["frames"],
            clips=plan["clips"],
            seconds=plan["seconds"],
            shape=plan["shape"],
            user=values.get("user"),
            notices=(*notices, *plan["notices"]),
        )

    async def _speak(
        self, asked: VideoRequest, folder: Path, inputs: JobFiles
    ) -> tuple[list[str | None], dict[str, Any]]:
        """The files of what each person says, made of a text, and how they were made."""
        values, many, engine = asked.values, self._setup.fields.many_speakers, self._setup.engine
        assert engine is not None, "fields of speech are refused without one"
        names = {name: asked.param(name) for name in ("tts_text", "tts_voice", "tts_speed", "tts_voice_2")}
        voices = [values.get("tts_voice"), *([values.get("tts_voice_2")] if many else [])]
        speed = values.get("tts_speed", 1.0)
        sounds = await self._helpers.speak(values["tts_text"], voices, speed, len(voices), names)
        made = [None if sound is None else f"speech{number}.wav" for number, sound in enumerate(sounds, 1)]
        for name, sound in zip(made, sounds):
            if name is not None and sound is not None:
                await asyncio.to_thread((folder / name).write_bytes, sound)
                facts = await self._looker.look(folder, name, asked.param("tts_text"), "sound")
                inputs.facts[name] = facts | {"sha256": digest(str(folder / name))}
        told = {"tts_text": values["tts_text"], "tts_speed": speed, "tts_engine": engine.name}
        for name, voice in zip(("tts_voice", "tts_voice_2"), voices[: len(made)]):
            told[name] = await self._helpers.say(partial(engine.voice, voice))
        return made, told

    async def _plan(
        self, asked: VideoRequest, folder: Path, files: dict[str, Any], settings: dict[str, Any]
    ) -> dict[str, Any]:
        setup = self._setup
        weights = str(Path(setup.weights.weights).expanduser().absolute())
        answer = await self._looker.ask(
            folder,
            asked.param("input_reference"),
            "plan",
            family=setup.family,
            weights={"weights": weights},
            machine=machine_walls(setup.options),
            files=files,
            settings=settings,
        )
        if (fault := answer.get("fault")) is None:
            return answer
        names = setup.fields.names | _as_sent(asked, setup.fields.names)
        if fault["field"] is None:
            raise Fault("unusable_media", fault["message"], asked.param("input_reference"))
        raise refused_option(UserError(fault["message"], field=fault["field"]), names)

    def _effective(self, settings: dict[str, Any]) -> dict[str, Any]:
        groups = {"settings": registry.settings_of(self._setup.family).Settings}
        return dataclasses.asdict(build(groups, settings, "request")["settings"])


def _as_sent(asked: VideoRequest, names: dict[str, str]) -> dict[str, str]:
    """The names that the client gave fields, by option."""
    return {option: asked.params[name] for option, name in names.items() if name in asked.params}


def request_digest(asked: VideoRequest, inputs: JobFiles) -> str:
    """A digest of all fields and bytes; the boxes are those of the people."""
    fields = {name: value for name, value in asked.values.items() if name != "bbox"}
    people = [dataclasses.astuple(person) for person in inputs.people]
    told = {"fields": fields, "files": inputs.digests(), "people": people}
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
