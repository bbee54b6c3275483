"""What the video object tells of the files that a job is made of."""

from collections.abc import Sequence
from typing import Any

from talkverse_jax.pipeline.request import SpeakerFiles
from talkverse_jax.serve.http.inputs import OWN_SOUND, JobFiles


def inputs_object(inputs: JobFiles, people: Sequence[SpeakerFiles]) -> dict[str, Any]:
    """`image`, `audio` of who speaks first, and of several people `speakers`, keyed as in a request.

    Args:
      inputs: with facts of all files, speech that was made among them.
      people: what each says; none where a video has its own sound.
    """
    kind = "video" if inputs.is_film else "picture"
    sounds = [_sound(inputs, person.sound) for person in people]
    first = next(filter(None, sounds), None) or _sound(inputs, OWN_SOUND)
    found = {"image": {"kind": kind, **_picture(inputs, "image")}, "audio": first}
    if len(people) > 1:
        pairs = enumerate(zip(people, sounds), 1)
        found["speakers"] = {str(number): _speaker(inputs, *pair) for number, pair in pairs}
    return found


def _sound(inputs: JobFiles, name: str | None) -> dict[str, Any] | None:
    """Of a sound by the name of our copy; None of nobody's."""
    if name is None:
        return None
    facts = inputs.facts[name]
    if name == OWN_SOUND:
        source, digest = "video", inputs.files["image"].sha256
    elif (file := inputs.files.get(name)) is not None:
        source, digest = file.source, file.sha256
    else:
        source, digest = "speech", facts["sha256"]
    return {"source": source, "sha256": digest, "seconds": round(facts["seconds"], 3), "rate": facts["rate"]}


def _picture(inputs: JobFiles, name: str) -> dict[str, Any]:
    file, facts = inputs.files[name], inputs.facts[name]
    return {"sha256": file.sha256, "bytes": file.size, "width": facts["width"], "height": facts["height"]}


def _speaker(inputs: JobFiles, person: SpeakerFiles, sound: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"audio": sound}
    if person.mask is not None:
        found["mask"] = _picture(inputs, person.mask)
    if person.bbox is not None:
        found["bbox"] = [int(number) for number in person.bbox.split(",")]
    return found
