"""The base encoder's features: against the original, in one pass and in windows, and what cannot be heard."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wav2vec2.component import wav2vec2_base, wav2vec2_base_origin
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.parity import compare as parity
from talkverse_jax.pipeline import registry, speech
from talkverse_jax.pipeline.cases import BundleModels, wav2vec2_base_case
from talkverse_jax.pipeline.encoders import normalise
from talkverse_jax.pipeline.long_sound import WindowedFeatures, sound_features
from talkverse_jax.pipeline.speech import SpeechEncoder, is_normalised
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.toy.speech import speak
from talkverse_jax.weights import store
from talkverse_jax.weights.published import Repository
from talkverse_jax.weights.torch_writer import write_torch
from tests.tiny import random_module

TINY = dataclasses.replace(
    Wav2Vec2Config.base(),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


@dataclasses.dataclass(frozen=True)
class Sources:
    wav2vec_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Configs:
    audio: Wav2Vec2Config = TINY


ORIGIN = wav2vec2_base_origin(Repository("wav2vec_dir", "nobody/base"))
CASE = partial(wav2vec2_base_case, BundleModels({"audio": wav2vec2_base()}, {"audio": ORIGIN}, Sources))


@dataclasses.dataclass(frozen=True)
class Samples:
    """A sound in memory."""

    samples: np.ndarray

    @property
    def duration(self) -> float:
        return len(self.samples) / 16_000

    def mono(self, rate: int):
        assert rate == 16_000
        yield from np.array_split(self.samples, 1 + len(self.samples) // 1111)


# A family that has ears alone.
FAMILY = dataclasses.replace(
    registry.find("second"), components={"audio": wav2vec2_base()}, configs_type=Configs, sources={"audio": ORIGIN}
)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return SpeechEncoder(random_module(Wav2Vec2, TINY))


@pytest.fixture(scope="module")
def long() -> Samples:
    """62 s of speech-like sound, louder and louder, off the middle."""
    sound = speak(np.random.default_rng(0), 62.3).sound
    return Samples((sound * np.linspace(0.1, 1, len(sound)) + 0.05).astype(np.float32))


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def relative_error(ours, reference) -> float:
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("mesh", [None, "fsdp=4,tensor=2"])
def test_golden(golden, mesh):
    bundle = golden("multitalk/multitalk_wav2vec2")
    case = CASE(bundle, MeshConfig.parse(mesh) if mesh else None)
    for group, found in (("taps", case.taps), ("outputs", case.outputs)):
        for name, reference in bundle.group(group).items():
            assert parity.compare(name, found[name], reference, bundle.component).passed
            assert relative_error(found[name], reference) < 2e-5


def test_rows_are_the_videos_frames(encoder):
    speech.layer_outputs.clear_cache()
    found = {
        samples: encoder.encode(noise(samples)).shape for samples in (640, 1279, 26_150, 159_999, 160_001, 176_000)
    }
    rows = {640: 1, 1279: 1, 26_150: 40, 159_999: 249, 160_001: 250, 176_000: 275}
    assert found == {samples: (n, 2, 32) for samples, n in rows.items()}
    assert speech.layer_outputs._cache_size() == 2  # up to 10 s, up to 20 s


def test_windows_are_near_one_pass(encoder):
    long = Samples(speak(np.random.default_rng(0), 62.3).sound)
    whole, windows = sound_features(encoder, long, 0), sound_features(encoder, long, 30)
    assert isinstance(windows, WindowedFeatures) and len(windows) == len(whole) == 1557
    found = np.concatenate([windows[np.arange(start, min(start + 81, 1557))] for start in range(0, 1557, 81)])
    error = np.sqrt(np.mean((found - whole) ** 2, axis=(0, 2)) / np.mean(whole**2, axis=(0, 2)))
    assert 1e-7 < error.max() < 0.1


def test_what_goes_into_the_transformer_is_the_same_in_windows(encoder, long, monkeypatch):
    """Norm, convolutions and positions are those of the whole sound, to rounding."""
    monkeypatch.setattr(Wav2Vec2, "hidden", lambda self, features, frames: (features, features))
    speech.layer_outputs.clear_cache()
    whole, windows = sound_features(encoder, long, 0), sound_features(encoder, long, 30)
    assert relative_error(windows[np.arange(1557)], whole) < 1e-5
    features = jax.jit(Wav2Vec2.features)(
        encoder.model, long.samples[None], encoder.model.moments(long.samples[None], np.array([len(long.samples)]))
    )
    where, vectors = np.linspace(0, features.shape[1] - 1, 1557), np.arange(features.shape[1])
    wanted = np.stack([np.interp(where, vectors, features[0, :, c]) for c in range(8)], 1)
    assert relative_error(whole[:, 0], wanted) < 1e-5
    speech.layer_outputs.clear_cache()


def test_sound_is_normalised_where_the_model_was_trained_so(encoder, long):
    normalising = SpeechEncoder(encoder.model, normalised=True)
    wanted = encoder.encode(normalise(long.samples))
    assert relative_error(normalising.encode(long.samples), wanted) < 1e-4
    assert relative_error(normalising.encode(3 * long.samples + 1), wanted) < 1e-3
    assert relative_error(encoder.encode(long.samples), wanted) > 1e-3  # by epsilon alone: the norm takes the rest


def test_silence_is_finite(encoder):
    assert np.isfinite(encoder.encode(np.zeros(16_000, np.float32))).all()


@pytest.mark.parametrize("samples, milliseconds", [(0, 0), (320, 20), (639, 40)])
def test_a_sound_without_a_row_is_refused(encoder, samples, milliseconds):
    with pytest.raises(UserError, match=f"audio: {milliseconds} ms long; give at least 40 ms"):
        encoder.encode(noise(samples))


def test_features_that_are_no_numbers_are_refused(encoder):
    values = {path: x * np.nan if "output_dense" in path else x for path, x in tree.parameters(encoder.model).items()}
    broken = SpeechEncoder(tree.with_parameters(tree.abstract(Wav2Vec2, TINY), values))
    with pytest.raises(UserError, match="audio: .* no numbers; convert its weights again"):
        broken.encode(noise(16_000))


@pytest.fixture
def published(tmp_path) -> Path:
    """The folder of a random checkpoint."""
    return write_random_checkpoint(FAMILY, tmp_path, Configs(), seed=0)["wav2vec_dir"]


def test_a_published_folder_becomes_a_component(published, tmp_path):
    tensors = load_file(published / "model.safetensors")
    assert "quantizer.codevectors" in tensors and all(np.isfinite(value).all() for value in tensors.values())
    output = tmp_path / "weights"
    convert(FAMILY, ConvertOptions(output=str(output)), Sources(str(published)), Configs())
    model = store.load_module(output, wav2vec2_base(), dtype="float32")
    assert np.isfinite(SpeechEncoder(model).encode(noise(16_000))).all()
    assert model.config == TINY and not is_normalised(store.folder_of(output, "audio"))


def test_an_older_file_of_pytorch(published, tmp_path):
    """The names and the kind of file that were published: `weight_g` beside the quantizer's."""
    found = load_file(published / "model.safetensors")
    (published / "model.safetensors").unlink()
    new = "parametrizations.weight.original"
    tensors = {name.replace(new + "0", "weight_g").replace(new + "1", "weight_v"): x for name, x in found.items()}
    assert tensors.keys() != found.keys()
    shapes = {name: (x.dtype, x.shape) for name, x in tensors.items()}
    write_torch(published / "pytorch_model.bin", shapes, tensors.values())
    output = tmp_path / "weights"
    convert(FAMILY, ConvertOptions(output=str(output)), Sources(str(published)), Configs())
    model = store.load_module(output, wav2vec2_base(), dtype="float32")
    norm = np.asarray(tree.parameters(model)["encoder/pos_conv_embed/conv/weight_g"])
    np.testing.assert_array_equal(norm.ravel(), tensors["wav2vec2.encoder.pos_conv_embed.conv.weight_g"].ravel())


@pytest.mark.parametrize("told", [True, False])
def test_whether_sound_is_normalised_is_what_the_files_say(published, tmp_path, told):
    table = published / "preprocessor_config.json"
    table.write_text(json.dumps(json.loads(table.read_text()) | {"do_normalize": told}))
    output = tmp_path / "weights"
    convert(FAMILY, ConvertOptions(output=str(output)), Sources(str(published)), Configs())
    assert is_normalised(store.folder_of(output, "audio")) is told


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("preprocessor_config.json", {"do_normalize": None}, "do_normalize is None, not False"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate is 8000, not 16000"),
        ("config.json", {"num_hidden_layers": 3}, "num_hidden_layers is 3, not 2; give the Chinese base model"),
        ("config.json", {"feat_extract_norm": "layer"}, "use TencentGameMate/chinese-wav2vec2-base"),
    ],
)
def test_a_folder_of_another_model_is_refused(published, tmp_path, file, change, message):
    table = published / file
    table.write_text(json.dumps(json.loads(table.read_text()) | change))
    with pytest.raises(UserError, match=message):
        convert(FAMILY, ConvertOptions(output=str(tmp_path / "weights")), Sources(str(published)), Configs())
