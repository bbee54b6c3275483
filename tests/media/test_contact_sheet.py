import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.contact_sheet import contact_sheet
from talkverse_jax.media.video_writer import VideoWriter

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture
def video(tmp_path):
    """36 grey frames that get lighter; sound in the last third only."""
    sound = np.zeros((round(1.44 * 48000), 1), np.float32)
    sound[48000:] = np.sin(np.arange(len(sound) - 48000) * 0.05)[:, None]
    path = tmp_path / "talk.mp4"
    with VideoWriter(path, width=64, height=64, sound=[sound], rate=48000) as writer:
        writer.write(np.stack([np.full((64, 64, 3), 20 + 6 * i, np.uint8) for i in range(36)]))
    return path


def test_frames_in_order_and_their_sound_under_them(video, tmp_path):
    contact_sheet(video, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    row = (sheet.shape[0] - 40 - 84 - 40 + 30) // 3
    top, pitch = 40 + 84, (1320 - 80 + 12) // 6
    middles = [
        sheet[top + r * row + 90, 40 + c * pitch + 90].mean() for r in range(3) for c in range(6)
    ]  # fmt: skip
    assert np.all(np.diff(middles) > 6)
    np.testing.assert_allclose(middles, [20 + 6 * (2 * i + 1) for i in range(18)], atol=3)
    blue = (sheet[..., 2].astype(int) - sheet[..., 0]) > 40
    painted = [blue[top + r * row : top + (r + 1) * row].sum() for r in range(3)]
    assert painted[0] == painted[1] == 0 and painted[2] > 10000


def test_the_note_is_on_the_sheet(video, tmp_path):
    contact_sheet(video, tmp_path / "plain.png")
    contact_sheet(video, tmp_path / "noted.png", note="random weights: this shows the machinery, not speech")
    plain, noted = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "noted"))
    assert noted.height == plain.height + 56
    assert np.all(np.asarray(noted)[40 + 80, 60] == (0xFB, 0xE9, 0xC6))


def test_the_command(video, tmp_path):
    command = [sys.executable, "-m", "talkverse_jax", "contact-sheet", str(video)]
    result = subprocess.run([*command, str(tmp_path / "a.jpg")], capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr == f"error: {tmp_path}/a.jpg: the contact sheet is a PNG; end the name in .png\n"


def test_no_video(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        contact_sheet(tmp_path / "none.mp4", tmp_path / "a.png")
    with pytest.raises(UserError, match="has no pictures"):
        contact_sheet(ASSETS / "speech.flac", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
