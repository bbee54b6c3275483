"""Jobs that share their steps have the bytes of a batch of that size, whoever shares them, whatever is killed."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time

import httpx
import pytest

from tests.serve.processes import ROOT, ServerProcess

_PACK = 2
_FLAGS = ["--size_bucket", "tiny-128", "--infer_frames", "8", "--sample_steps", "2", "--dtype", "float32"]
_SOUND, _FACE = ROOT / "assets" / "speech.flac", ROOT / "assets" / "face.png"
_PROMPT = "A person talks."
_CLIPS = (1, 4, 2, 2, 3)  # of each job, whose number is its seed
_WITHIN = 600  # seconds


def _submit(server: ServerProcess, number: int) -> str:
    fields = {"prompt": _PROMPT, "num_clip": str(_CLIPS[number]), "seed": str(number)}
    files = {"input_reference": ("a", _FACE.read_bytes()), "audio_reference": ("b", _SOUND.read_bytes())}
    answer = server.client.post("/v1/videos", data=fields, files=files, headers={"Idempotency-Key": f"job-{number}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def _wait(server: ServerProcess, ids: list[str]) -> list[str]:
    """The digests of the videos."""
    end = time.monotonic() + _WITHIN
    while True:
        found = [server.client.get(f"/v1/videos/{job}").json()["status"] for job in ids]
        if found == ["completed"] * len(ids):
            break
        assert server.alive and time.monotonic() < end and "failed" not in found, found
        time.sleep(0.3)
    return [hashlib.sha256(server.client.get(f"/v1/videos/{job}/content").content).hexdigest() for job in ids]


def _batch(tmp_path, weights) -> list[str]:
    """The digests of what `sample --batch` makes, of packs of that size."""
    row = {"image": str(_FACE), "audio": str(_SOUND), "prompt": _PROMPT}
    rows = [row | {"id": str(number), "num_clip": clips, "base_seed": number} for number, clips in enumerate(_CLIPS)]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "talkverse_jax", "sample", "--weights", str(weights), "--output_dir", str(out)]
    command += ["--batch", str(tmp_path / "list.json"), "--batch_size", str(_PACK), *_FLAGS]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    return [hashlib.sha256((out / f"{number}.mp4").read_bytes()).hexdigest() for number in range(len(_CLIPS))]


@pytest.mark.slow
@pytest.mark.parametrize("first_frame", ["true", "false"])
def test_the_bytes_are_those_of_a_batch(tmp_path, tiny_weights, monkeypatch, first_frame):
    monkeypatch.setattr(sys.modules[__name__], "_FLAGS", [*_FLAGS, "--init_first_frame", first_frame])
    expected, together = _batch(tmp_path, tiny_weights), []
    flags = [*_FLAGS, "--pack_size", str(_PACK), "--max_tries", "100"]
    with ServerProcess(tmp_path / "calm", tiny_weights, *flags) as server:
        ids = [_submit(server, number) for number in range(len(_CLIPS))]
        while "queued" in [server.client.get(f"/v1/videos/{job}").json()["status"] for job in ids]:
            together.append(server.client.get("/health").json()["running"])
            time.sleep(0.1)
        assert max(together) == _PACK
        assert _wait(server, ids) == expected
    data = tmp_path / "data"
    server = ServerProcess(data, tiny_weights, *flags)
    ids = [_submit(server, number) for number in range(len(_CLIPS))]
    for turn in range(4):
        end = time.monotonic() + 60
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < end and not server.client.get("/health").json()["running"]:
                time.sleep(0.1)
        time.sleep(1.5 * turn)
        if turn % 2:
            server.kill()
            server = ServerProcess(data, tiny_weights, *flags)
        else:
            server.kill_worker()
    with server:
        assert _wait(server, ids) == expected
        for job, clips in zip(ids, _CLIPS):
            text = server.client.get(f"/v1/videos/{job}/events").text
            kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
            assert kinds.count("clip") == clips and kinds.count("completed") == 1 and kinds[-1] == "completed"
