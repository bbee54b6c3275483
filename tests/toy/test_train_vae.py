"""The tiny autoencoder's training: where it begins, that it learns, that it resumes, and what it publishes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import VAE_FILE
from talkverse_jax.media.fit import to_unit
from talkverse_jax.toy import train_vae as module
from talkverse_jax.toy.make import make, make_clip
from talkverse_jax.toy.make_options import MakeOptions
from talkverse_jax.toy.train_vae import VaeOptions, in_two_chunks, train_vae
from talkverse_jax.toy.vae_start import linear_codec
from talkverse_jax.weights import store
from tests.conftest import CONFIGS
from tests.published import converted

SIZES = CONFIGS / "model_toy.toml"
CONFIG = FAMILY.configs_from_toml(SIZES).vae


@pytest.fixture(scope="module")
def linear():
    """The linear codec, and the pictures it was fitted to."""
    clips = [make_clip(3, "train", number, 1.0, (64, 64)).film.frames[:17] for number in range(6)]
    video = to_unit(jnp.asarray(np.stack(clips)))
    return linear_codec(CONFIG, video[:, 1:], np.random.default_rng(0)), video


def decibels(shown, video):
    return -10 * np.log10(np.square(np.clip(shown, -1, 1) - video).mean() / 4)


@pytest.mark.slow
def test_it_begins_as_a_codec(linear):
    """Pictures are known again, and each channel of the latents is about as wide as the others."""
    vae, video = linear
    latents = vae.encode(video)
    shown = vae.decode(latents)
    plain = decibels(video.mean((1, 2, 3), keepdims=True), video)
    assert decibels(shown[:, 1:], video[:, 1:]) > plain + 3
    spread = np.asarray(latents[:, 1:]).std((0, 1, 2, 3))
    assert spread.min() > 0.5 and spread.max() < 2


@pytest.mark.slow
def test_an_update_is_compiled_once(linear):
    """A weakly typed parameter becomes another type by the first update, and the second compiles anew."""
    assert not [name for name, x in tree.parameters(linear[0]).items() if x.weak_type]


@pytest.mark.slow
def test_what_is_trained_is_what_is_used(linear):
    vae, video = linear
    latents = in_two_chunks(vae.encode_chunk, video)
    np.testing.assert_allclose(latents, vae.encode(video), atol=1e-4)
    np.testing.assert_allclose(in_two_chunks(vae.decode_chunk, latents), vae.decode(latents), atol=1e-4)


@pytest.mark.parametrize("change, message", [
    ({"dim": 8}, "dim 8: one of its levels has 8 channels, 12 are needed"),
    ({"z_dim": 64}, "dec_dim 16: one of its levels has 64 channels, 84 are needed"),
    ({"dim_mult": (1, 2, 4, 4)}, "dim_mult"),
    ({"pixel_patch": 1}, "pixel_patch"),
])  # fmt: skip
def test_sizes_that_it_cannot_begin_with(change, message):
    with pytest.raises(UserError, match=message):
        linear_codec(dataclasses.replace(CONFIG, **change), jnp.zeros((1, 4, 32, 32, 3)), np.random.default_rng(0))


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Six steps on three short videos."""
    folder = tmp_path_factory.mktemp("vae")
    csv = make(MakeOptions(str(folder / "world"), videos=3, seconds=1.0, square=True, workers=1))

    def of(output, **changes):
        values = dict(steps=6, save_steps=2, num_frames=4, crop=32, crops=1, learning_rate=1e-3)
        return VaeOptions(
            str(SIZES), (str(csv),), dataset_base_path=str(csv.parent), output_path=str(folder / output),
            **values | changes,
        )  # fmt: skip

    return of


@pytest.fixture(scope="module", autouse=True)
def few_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_START", 3)
        patch.setattr(module, "_MEASURED", 3)
        yield


@pytest.fixture(scope="module")
def trained(options):
    return train_vae(options("whole"))


@pytest.mark.slow
def test_it_resumes(options, trained, monkeypatch):
    """Killed after five steps, it goes on from the fourth, and comes to the same."""
    crops = module._Run.crops

    def until_five(run, first):
        for number, crop in enumerate(crops(run, first)):
            if first == 0 and number == 5:
                raise KeyboardInterrupt
            yield crop

    monkeypatch.setattr(module._Run, "crops", until_five)
    with pytest.raises(KeyboardInterrupt):
        train_vae(options("stopped"))
    assert train_vae(options("stopped")).read_bytes() == trained.read_bytes()
    with pytest.raises(UserError, match="--crop was 32, now 16"):
        train_vae(options("stopped", crop=16))


@pytest.mark.slow
def test_what_is_published(trained, tmp_path):
    """It converts like the original's, and latents of the videos have mean 0 and deviation 1."""
    assert trained.name == VAE_FILE
    converted(tmp_path / "weights", FAMILY.configs_from_toml(SIZES), {"ckpt_dir": trained.parent}, components=("vae",))
    vae = store.load_module(tmp_path / "weights", COMPONENTS["vae"], dtype="float32")
    clips = [make_clip(0, "train", number, 1.0, (128, 128)).film.frames for number in range(3)]
    latents = np.asarray(jax.jit(lambda m, x: m.encode(to_unit(x)))(vae, jnp.asarray(np.stack(clips))))
    assert abs(latents.mean()) < 0.3
    assert 0.7 < latents.std() < 1.4
