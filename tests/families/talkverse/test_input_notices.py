"""What is said of a picture or a video that is read otherwise than its bytes are."""

from fractions import Fraction

import numpy as np
from PIL import Image

from talkverse_jax.families.talkverse.inputs import read
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.videos import write_video


def notices(tmp_path, image, audio=None):
    files = Files(image=str(image), audio=None if audio is None else str(audio))
    settings = Settings(prompt="", size_bucket="tiny-128")
    made = read(Job.make("talkverse", Weights(weights=""), Machine(), files, settings, str(tmp_path / "out.mp4")))
    assert made.picture.shape[:2] == made.size
    return made.notices


def test_a_picture(tmp_path):
    sound = write_video(tmp_path / "sound.mp4", 1.0)
    first, second = (Image.new("RGBA", (64, 64), colour) for colour in ((255, 0, 0, 128), "blue"))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    expected = f"{tmp_path / 'a.png'}: an animation, its first picture taken; transparent, laid on white"
    assert notices(tmp_path, tmp_path / "a.png", sound)[0] == expected
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "b.png")
    assert not [line for line in notices(tmp_path, tmp_path / "b.png", sound) if "b.png" in line]


def test_a_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1.0, size=(128, 64), aspect=Fraction(2, 1))
    assert notices(tmp_path, path)[0] == f"{path}: pixels of 2:1, stretched to squares"
