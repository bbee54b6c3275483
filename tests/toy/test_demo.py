import numpy as np

from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.image import read_image
from talkverse_jax.toy.demo import draw_demo
from tests.conftest import CONFIGS

ASSETS = CONFIGS.parent / "assets"


def test_the_demos_material_is_of_this_world(tmp_path):
    """Small, and what assets/README.md says of it; the libraries' versions may differ in a bit or two."""
    draw_demo(tmp_path)
    drawn, face = read_image(tmp_path / "face.png"), read_image(ASSETS / "face.png")
    assert face.shape == (512, 512, 3)
    assert np.abs(drawn.astype(int) - face).mean() < 0.5
    for name, seconds in (("speech.flac", 4.92), ("speech_other.flac", 2.88)):
        sound, again = read_audio(ASSETS / name), read_audio(tmp_path / name)
        assert sound.duration == seconds and sound.native_rate == 16000 and not sound.notices
        np.testing.assert_allclose(sound.samples, again.samples, atol=1e-3)
    assert sum(file.stat().st_size for file in ASSETS.iterdir() if file.is_file()) < 400_000
