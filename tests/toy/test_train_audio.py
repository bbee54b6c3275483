"""The toy wav2vec2's lessons: what it is asked, what it hears, and that it learns."""

import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.toy.timbre import RATE
from talkverse_jax.toy.train_audio import AudioOptions, any_sound, heard, train_audio
from talkverse_jax.weights.match import load_torch
from talkverse_jax.weights.safetensors_io import read_file
from tests.conftest import CONFIGS

CONFIG = FAMILY.configs_from_toml(CONFIGS / "model_toy.toml").audio


def tone(hertz):
    """One second of which the second half is silent."""
    at = np.arange(RATE) / RATE
    return np.where(at < 0.5, np.sin(2 * np.pi * hertz * at), 0.0)


def test_a_tone_is_heard_in_its_band_while_it_lasts():
    vowel, hiss = np.asarray(heard(np.stack([tone(1000), tone(6000)]), CONFIG))
    assert vowel.shape == (CONFIG.frames(RATE), 21)
    assert vowel[5:20, 0].min() > 20 * vowel[30:, 0].max()
    assert vowel[10, 1:].argmax() == np.floor(20 * np.log(1000 / 80) / np.log(7500 / 80))
    assert hiss[:, 0].max() < 0.1 * vowel[:, 0].max()
    twice = np.asarray(heard(2 * np.stack([tone(1000)]), CONFIG))[0]
    np.testing.assert_allclose(twice[10, 0] / vowel[10, 0], 2**0.6, rtol=1e-3)


def test_any_sound_is_the_same_for_a_seed_and_has_loud_and_soft_parts():
    sound = any_sound(np.random.default_rng(1), RATE)
    np.testing.assert_array_equal(sound, any_sound(np.random.default_rng(1), RATE))
    assert sound.shape == (RATE,) and np.abs(sound).max() == 1
    loud = [np.square(any_sound(np.random.default_rng(n), 4 * RATE).reshape(-1, 640)).mean(1) for n in range(10)]
    assert np.median([np.quantile(x, 0.9) / np.quantile(x, 0.1) for x in loud]) > 10


@pytest.mark.slow
def test_it_learns_and_is_published_whole(tmp_path):
    def trained(steps):
        path = train_audio(AudioOptions(str(CONFIGS / "model_toy.toml"), str(tmp_path / f"{steps}"), steps=steps))
        return {name: np.array(x) for name, x in read_file(path).tensors.items()}

    few = trained(1)
    audio = FAMILY.components["audio"]
    assert {name: x.shape for name, x in few.items()} == audio.torch_shapes(CONFIG)
    model = load_torch(audio.abstract(CONFIG), audio.rules, few, "the file")
    assert tree.parameters(model).keys() == tree.parameters(tree.abstract(Wav2Vec2, CONFIG)).keys()
    again = trained(1)
    assert all((few[name] == again[name]).all() for name in few)
