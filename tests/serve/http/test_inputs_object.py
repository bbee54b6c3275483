"""What is told of a job's files: of the first sound, and of each of several people."""

from pathlib import Path

from talkverse_jax.pipeline.request import SpeakerFiles
from talkverse_jax.serve.http.inputs import OWN_SOUND, JobFiles
from talkverse_jax.serve.http.inputs_object import inputs_object
from talkverse_jax.serve.http.references import Reference

SIZE = {"width": 64, "height": 48}
HEARD = {"seconds": 1.23456, "rate": 16000}


def _files(*names: str, kind="picture", **facts) -> JobFiles:
    files = {name: Reference(Path(name), name, "upload", kind, f"digest of {name}", 9) for name in names}
    return JobFiles(files, {"image": SIZE} | facts, ())


def _heard(name: str, source: str = "upload") -> dict:
    return {"source": source, "sha256": f"digest of {name}", "seconds": 1.235, "rate": 16000}


def test_one_person():
    told = inputs_object(_files("image", "audio", audio=HEARD), [SpeakerFiles("audio")])
    image = {"kind": "picture", "sha256": "digest of image", "bytes": 9, **SIZE}
    assert told == {"image": image, "audio": _heard("audio")}


def test_a_video_has_its_own_sound():
    told = inputs_object(_files("image", kind="film", **{OWN_SOUND: HEARD}), [])
    assert told["image"]["kind"] == "video" and told["audio"] == _heard("image", "video")


def test_several_people():
    """The first listens, with a box; the second has a file and a mask, the third a speech that was made."""
    files = _files(
        "image", "audio2", "mask2", audio2=HEARD, mask2=SIZE, speech3=HEARD | {"sha256": "digest of speech3"}
    )
    people = [SpeakerFiles(None, bbox="1,2,3,4"), SpeakerFiles("audio2", mask="mask2"), SpeakerFiles("speech3")]
    told = inputs_object(files, people)
    assert told["audio"] == _heard("audio2")
    assert told["speakers"] == {
        "1": {"audio": None, "bbox": [1, 2, 3, 4]},
        "2": {"audio": _heard("audio2"), "mask": {"sha256": "digest of mask2", "bytes": 9, **SIZE}},
        "3": {"audio": _heard("speech3", "speech")},
    }
