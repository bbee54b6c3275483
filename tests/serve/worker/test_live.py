"""A live video in the worker, around a pipeline without models."""

import base64
import io
import queue

import av
import numpy as np
import pytest

from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.serve.worker.live import make_live
from tests.processes import ROOT
from tests.run.drawn import WEIGHTS
from tests.run.live.echo import Echo, steps

MESSAGE = {
    "session": "s",
    "folder": str(ROOT / "assets"),
    "files": {"image": "face.png"},
    "settings": {"prompt": "", "size_bucket": "tiny-128", "max_pixels": 1_000_000, "base_seed": 3},
    "keeping": {"when_behind": "skip"},
}


@pytest.fixture
def pipeline():
    made = Echo()
    made.weights, made.machine = Weights(weights=str(WEIGHTS)), Machine()
    return made


def run(pipeline, sounds, stopping=lambda: False, message=MESSAGE):
    sound, said = queue.Queue(), []
    for each in sounds:
        sound.put(each)
    make_live(pipeline, message, sound, stopping, said.append)
    assert all(each.pop("say") == "live" and each.pop("session") == "s" for each in said)
    return said


def test_sound_comes_in_messages_and_so_does_the_video(pipeline):
    pcm = np.round(steps(10) * 32767).astype("<i2").tobytes()
    said = run(pipeline, [pcm[:5000], pcm[5000:], None])
    kinds = [name for each in said for name in each]
    assert kinds.index("listening") < kinds.index("mp4") < kinds.index("report") and said[-1] == {"ended": None}
    video = b"".join(base64.b64decode(each["mp4"]) for each in said if "mp4" in each)
    with av.open(io.BytesIO(video), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_what_cannot_be_made_is_said(pipeline):
    broken = MESSAGE | {"settings": MESSAGE["settings"] | {"sample_steps": 0}}
    assert "sample_steps" in run(pipeline, [], message=broken)[-1]["ended"]
    pipeline.listen = lambda *_: 1 / 0
    assert run(pipeline, [])[-1] == {"ended": "the server failed (ZeroDivisionError); its log knows more"}
