"""sample.py as two processes of four virtual devices each, against one process of eight."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile

import sample
from talkverse_jax.core.errors import run_command
from talkverse_jax.pipelines import sample as pipeline

ROOT = Path(__file__).parents[2]
SECONDS = 240  # after which the processes are ended; they take some 30 on two cores

# What a process runs: sample.py, which besides leaves its clips as they are before they become a video.
PROGRAM = """
import sys
import sample
from tests.pipelines.test_two_processes import keep_clips
from talkverse_jax.core.errors import run_command
keep_clips(sys.argv.pop(1))
run_command(sample.main)
"""


def keep_clips(folder: str, replace=setattr) -> None:
    """Have sample.py save the frames and latents of its clips, in the process that has them."""
    generate = pipeline.generate_clips

    def generate_and_keep(*args, **kwargs):
        for clip in generate(*args, **kwargs):
            if clip.frames is not None:
                np.savez(Path(folder) / f"clip_{clip.index}.npz", frames=clip.frames, latents=clip.latents)
            yield clip

    replace(pipeline, "generate_clips", generate_and_keep)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_two_processes_make_the_video_of_one(tiny_weights, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "short.wav", 0.1 * np.sin(np.arange(8000) / 9), 16000)  # 0.5 s: 13 frames
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
    }
    folders = [tmp_path / name for name in ("one", "two", "two_other")]
    for folder in folders:
        folder.mkdir()

    def words(folder: Path) -> list[str]:
        named = flags | {"output": tmp_path / ("one" if folder == folders[0] else "two") / "talk.mp4"}
        return [str(word) for name, value in named.items() for word in (f"--{name}", value)]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environ = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", PROGRAM]
    started = []
    try:
        for me, folder in enumerate(folders[1:]):
            processes = ["--coordinator_address", address, "--num_processes", "2", "--process_id", str(me)]
            started.append(
                subprocess.Popen(
                    [*command, str(folder), *words(folder), *processes],
                    env=environ,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [process.communicate(timeout=SECONDS)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], said

    keep_clips(str(folders[0]), monkeypatch.setattr)
    run_command(partial(sample.main, words(folders[0])))
    print(said)
    for n in (0, 1):
        a, b = (np.load(f / f"clip_{n}.npz") for f in folders[:2])
        for k in ("frames", "latents"):
            print(n, k, np.abs(a[k] - b[k]).max() / np.abs(a[k]).max())
    a, b = (frames_of(f / "talk.mp4") for f in folders[:2])
    print(np.abs(a - b).mean(), np.abs(a - b).max())
    print([sorted(p.name for p in f.iterdir()) for f in folders])
    assert 0
