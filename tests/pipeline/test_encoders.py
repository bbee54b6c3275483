"""Prompts and sound as the pipeline encodes them."""

import time

import numpy as np
import pytest
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.umt5 import keys as umt5_keys
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.umt5.prompts import LONGEST_PROMPT
from talkverse_jax.models.wav2vec2 import keys as wav2vec2_keys
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.pipeline import encoders
from talkverse_jax.pipeline.encoders import (
    AudioEncoder,
    TextEncoder,
    clean_prompt,
    load_tokenizer,
    normalise,
)
from talkverse_jax.weights.match import load_torch
from talkverse_jax.weights.tiny_tokenizer import save_tiny_tokenizer


@pytest.fixture
def tokenizer_folder(tmp_path):
    save_tiny_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def text_encoder(golden, tokenizer_folder) -> TextEncoder:
    bundle = golden("umt5")
    config = UMT5Config.from_upstream(bundle.config, "umt5")
    module = tree.abstract(UMT5Encoder, config)
    model = load_torch(module, umt5_keys.RULES, bundle.weights(), "umt5")
    return TextEncoder(model, load_tokenizer(tokenizer_folder))


@pytest.fixture
def audio_encoder(golden) -> AudioEncoder:
    bundle = golden("wav2vec2")
    config = Wav2Vec2Config.from_huggingface(bundle.config, "wav2vec2")
    module = tree.abstract(Wav2Vec2, config)
    rules, ignored = wav2vec2_keys.RULES, wav2vec2_keys.IGNORED
    return AudioEncoder(load_torch(module, rules, bundle.weights(), "wav2vec2", ignored))


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def relative_error(ours, reference) -> float:
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize(
    "text, clean",
    [
        ("  a man\t\n speaks  ", "a man speaks"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("\u00a0a\u3000b", "a b"),
        ("caf\u00c3\u00a9", "café"),  # UTF-8 read as Latin-1
        ("\u201cquoted\u201d", '"quoted"'),
        ("", ""),
    ],
)
def test_clean_prompt(text, clean):
    assert clean_prompt(text) == clean


def test_the_longest_prompt_is_clean_in_a_moment():
    """0.24 s at worst where the length was free to grow: 28 s for 80,000 characters of this kind, 35 s for 5 MB of
    blanks."""
    begin = time.process_time()
    assert clean_prompt("&" + "amp;" * (LONGEST_PROMPT // 4)) == "&"
    assert clean_prompt(" " * LONGEST_PROMPT) == clean_prompt("\n" * LONGEST_PROMPT) == ""
    assert clean_prompt("Ã©" * (LONGEST_PROMPT // 2)) == "é" * (LONGEST_PROMPT // 2)
    assert time.process_time() - begin < 3


def test_a_huge_caption_is_read_as_far_as_its_tokens_count(text_encoder):
    begin = time.process_time()
    encoded = text_encoder.encode(["the " * 20_000 + "&" + "amp;" * 20_000 + " " * 5_000_000], 32)
    assert time.process_time() - begin < 5
    np.testing.assert_array_equal(encoded.states, text_encoder.encode(["the " * 31], 32).states)
    assert encoded.tokens[0] == LONGEST_PROMPT // 4 + 1  # its end mark


def test_tokens_are_those_of_transformers(tokenizer_folder):
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    ours = load_tokenizer(tokenizer_folder)
    for text in ("A young woman is talking.", "", "7 × 你好 😀", "the the"):
        assert ours.encode(text).ids == theirs(text).input_ids
        assert ours.encode(text).ids[-1] == theirs.eos_token_id == 1
        assert ours.decode(ours.encode(text).ids) == text
    assert theirs.pad_token_id == 0
    assert theirs("the", padding="max_length", max_length=4).input_ids[2:] == [0, 0]
    assert ours.get_vocab_size() < 512


def test_text_equals_the_encoder_at_full_padding(text_encoder):
    prompts = ["A man speaks.", "", "a smiling young woman in front of the camera"]
    encoded = text_encoder.encode(prompts, 150)
    ids = np.zeros((3, 150), np.int32)
    for row, prompt in enumerate(prompts):
        tokens = text_encoder.tokenizer.encode(prompt).ids
        ids[row, : len(tokens)] = tokens
        assert encoded.lengths[row] == encoded.tokens[row] == len(tokens)
    mask = np.arange(150) < encoded.lengths[:, None]
    reference = np.asarray(text_encoder.model(ids, mask)) * mask[..., None]
    assert encoded.states.shape == reference.shape
    assert relative_error(encoded.states, reference) < 1e-5
    assert np.all(np.asarray(encoded.states)[~mask] == 0)
    assert encoded.lengths[1] == 1  # the empty prompt is its end mark


def test_long_prompt_is_cut_and_counted(text_encoder):
    encoded = text_encoder.encode(["the " * 40], 32)
    assert (encoded.lengths[0], encoded.tokens[0]) == (32, 41)
    whole = text_encoder.encode(["the " * 31], 32)  # 31 words and the end mark
    assert whole.tokens[0] == 32
    np.testing.assert_array_equal(encoded.states, whole.states)


def test_tokenizer_of_another_model_is_refused(text_encoder):
    small = UMT5Config(64, 8, 8, 8, 2, 1, 32, 128)
    with pytest.raises(UserError, match="tokens, the text encoder knows 64"):
        TextEncoder(tree.abstract(UMT5Encoder, small), text_encoder.tokenizer)


def test_missing_or_broken_tokenizer(tmp_path):
    with pytest.raises(UserError, match="tokenizer.json: no such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="tokenizer.json: not a tokenizer"):
        load_tokenizer(tmp_path)


def test_normalise_is_that_of_transformers():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    waveform = 0.1 * noise(50_000) + 0.3
    theirs = extractor(waveform, sampling_rate=16_000).input_values[0]
    np.testing.assert_allclose(normalise(waveform), theirs, atol=1e-6)


def test_audio_golden(golden, audio_encoder):
    bundle = golden("wav2vec2")
    waveform = bundle.group("inputs")["waveform"][0]
    assert relative_error(normalise(waveform), bundle.group("taps")["normalized"][0]) < 1e-6
    features = audio_encoder.encode(waveform)
    assert features.shape == (25, 5, 32) and features.dtype == np.float32
    layers_first = np.moveaxis(features, 1, 0)
    assert relative_error(layers_first, bundle.group("outputs")["hidden_states_25fps"]) < 1e-5


def test_one_program_for_many_lengths(audio_encoder):
    encoders.every_second_state.clear_cache()
    rows = [len(audio_encoder.encode(noise(samples))) for samples in (400, 16_000, 159_999, 160_001)]
    assert rows == [1, 25, 250, 250]
    assert encoders.every_second_state._cache_size() == 2  # up to 10 s, up to 20 s


def test_silence_is_finite(audio_encoder):
    assert np.isfinite(audio_encoder.encode(np.zeros(16_000, np.float32))).all()


def test_sound_shorter_than_one_state_is_refused(audio_encoder):
    with pytest.raises(UserError, match="audio: 20 ms long"):
        audio_encoder.encode(noise(320))
