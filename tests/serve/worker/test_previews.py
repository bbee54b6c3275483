"""The thumbnail and the sheet of a video whose frames tell their number by their brightness."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.serve.worker.previews import make_variants


@pytest.mark.parametrize("frames", [1, 7, 120])
def test_frames_are_at_equal_distances(tmp_path, frames):
    sound = iter([np.zeros((16000, 1), np.float32)])
    levels = np.linspace(20, 235, frames)
    pictures = np.empty((frames, 320, 640, 3), np.uint8)
    pictures[:] = levels[:, None, None, None]
    with VideoWriter(tmp_path / "video.mp4", width=640, height=320, sound=sound, rate=16000) as writer:
        writer.write(pictures)
    made = make_variants(tmp_path)
    for name, file in (("video", "video.mp4"), ("thumbnail", "thumbnail.webp"), ("spritesheet", "spritesheet.jpg")):
        data = (tmp_path / file).read_bytes()
        assert made[name]["etag"] == hashlib.sha256(data).hexdigest() and made[name]["size"] == len(data)
    thumbnail, sheet = Image.open(tmp_path / "thumbnail.webp"), Image.open(tmp_path / "spritesheet.jpg")
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (512, 256))
    assert (sheet.format, sheet.size) == ("JPEG", (800, 400))
    cells = np.asarray(sheet.convert("L")).reshape(5, 80, 5, 160).mean((1, 3)).reshape(-1)
    wanted = levels[np.round(np.arange(25) * (frames - 1) / 24).astype(int)]
    assert np.abs(cells - wanted).max() < 8
    assert abs(np.asarray(thumbnail.convert("L")).mean() - levels[0]) < 8
    assert {path.name for path in tmp_path.iterdir()} == {"video.mp4", "thumbnail.webp", "spritesheet.jpg"}
