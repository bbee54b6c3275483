"""sample.py as two processes of four virtual devices each against one process of eight."""

from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

import sample
from talkverse_jax.cli.command import run_command
from talkverse_jax.families.talkverse.clips import ClipMaker
from tests.processes import ROOT, free_address, run_together
from tests.sharded import error

PROGRAM = """
import sys
import sample
from talkverse_jax.cli.command import run_command
from tests.run.test_worker_processes import keep_clips

keep_clips(sys.argv.pop(1))
run_command(sample.main)
"""


def keep_clips(folder: str, replace=setattr) -> None:
    """Have sample.py save its clips as they are before they become a video, in the process that has the frames."""
    advance = ClipMaker.advance

    def advance_and_keep(*args):
        for place, clip, state in advance(*args):
            if clip.frames is not None:
                np.savez(Path(folder) / f"clip_{clip.index}.npz", frames=clip.frames, latents=clip.latents)
            yield place, clip, state

    replace(ClipMaker, "advance", advance_and_keep)


def frames_of(video: Path) -> np.ndarray:
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


@pytest.mark.slow
def test_two_processes_make_the_video_of_one(tiny_weights, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "short.wav", 0.1 * np.sin(np.arange(8000) / 9), 16000)  # 0.5 s: 13 frames
    one, two, other = folders = [tmp_path / name for name in ("one", "two", "other")]
    for folder in folders:
        folder.mkdir()

    def words(output: Path, **more) -> list[str]:
        flags = {
            "weights": tiny_weights,
            "image": ROOT / "assets/face.png",
            "audio": tmp_path / "short.wav",
            "prompt": "A woman talks.",
            "size_bucket": "tiny-128",
            "infer_frames": 8,
            "sample_steps": 2,
            "base_seed": 3,
            "dtype": "float32",
            "mesh": "data=2,context=4",
            "output": output,
        }
        return [str(word) for name, value in (flags | more).items() for word in (f"--{name}", value)]

    together = partial(
        words, two / "talk.mp4", coordinator_address=free_address(), num_processes=2, heartbeat_timeout=60
    )
    run_together(PROGRAM, [two, *together(process_id=0)], [other, *together(process_id=1)], within=600)
    keep_clips(str(one), monkeypatch.setattr)
    run_command(partial(sample.main, words(one / "talk.mp4")))

    for name in ("clip_0.npz", "clip_1.npz"):
        ours, expected = np.load(two / name), np.load(one / name)
        for array in ("frames", "latents"):
            assert error(ours[array], expected[array]) < 2e-5
    # Of 255. Rounding to whole numbers and H.264's own choices make more of a difference than the processes do.
    difference = np.abs(frames_of(two / "talk.mp4") - frames_of(one / "talk.mp4"))
    assert len(difference) == 13 and difference.mean() < 0.5
    assert sorted(path.name for path in two.iterdir()) == ["clip_0.npz", "clip_1.npz", "talk.json", "talk.mp4"]
    assert not list(other.iterdir())
