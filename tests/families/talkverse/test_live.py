"""A live video by the real pipeline with tiny weights: `talkverse-jax stream`, from a pipe to a file."""

import io
import json
import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.inputs import read_live
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.families.talkverse.timeline import live_timeline
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.processes import ROOT
from tests.videos import write_video

PICTURE = str(ROOT / "assets/face.png")


def job(weights="", image=PICTURE, **settings) -> Job:
    settings = {"prompt": "", "size_bucket": "tiny-128", "infer_frames": 8} | settings
    return Job.make(
        "talkverse", Weights(weights=str(weights)), Machine(), Files(image=image), Settings(**settings), "live.mp4"
    )


def test_its_clips(tiny_weights):
    exact = live_timeline(job(tiny_weights))
    assert (exact.first, exact.every, exact.heard_ahead) == (5, 8, 0)
    assert live_timeline(job(tiny_weights, audio_alignment="upstream")).hears(0) == 8
    assert live_timeline(job(tiny_weights, init_first_frame=True)).first == 8
    with pytest.raises(UserError, match="ends with its sound"):
        live_timeline(job(tiny_weights, seconds=3.0))


def test_its_picture(tmp_path):
    inputs = read_live(job())
    assert inputs.size == (128, 128) and inputs.sound is None
    write_video(tmp_path / "film.mp4", 4)
    with pytest.raises(UserError, match="cannot be dubbed live; give a picture"):
        read_live(job(image=str(tmp_path / "film.mp4")))


def _coarse(frames: np.ndarray) -> np.ndarray:
    """How bright each sixteenth of each side is in each frame."""
    return frames.reshape(len(frames), 8, 16, 8, 16, 3).mean((2, 4, 5)).ravel()


@pytest.mark.slow
def test_a_stream(tiny_weights, tmp_path):
    """Twice: the same sound gives the same frames; the sound in the video is what came."""
    sound, _ = soundfile.read(ROOT / "assets/speech.flac", dtype="int16")
    sound = sound[:16_000]
    wav = io.BytesIO()
    soundfile.write(wav, sound, 16_000, format="WAV")
    flags = f"--weights {tiny_weights} --image {PICTURE} --size_bucket tiny-128 --infer_frames 8 --sample_steps 2"
    flags += " --base_seed 3 --dtype float32 --patience 100 --report report.jsonl --prompt nobody --sound -"
    command = [sys.executable, "-m", "talkverse_jax", "stream", *flags.split()]
    for bytes_, more in ((sound.tobytes(), []), (wav.getvalue(), ["--format", "rgb24", "--output", "-"])):
        done = subprocess.run([*command, *more], input=bytes_, capture_output=True, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr.decode()
    raw = np.frombuffer(done.stdout, np.uint8).reshape(-1, 128, 128, 3)
    with av.open(str(tmp_path / "live.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(tmp_path / "live.mp4")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert frames.shape == raw.shape == (25, 128, 128, 3)
    assert np.corrcoef(_coarse(frames), _coarse(raw))[0, 1] > 0.9  # random weights draw noise, which is not kept
    assert np.corrcoef(heard[: 3 * len(sound) : 3], sound / 2**15)[0, 1] > 0.98
    reports = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [each["frames"] for each in reports if each["all"]] == [25, 25]
    assert "sound to picture" in done.stderr.decode()
