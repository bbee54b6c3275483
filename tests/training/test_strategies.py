"""Each strategy trained for three steps on real videos: what moves, and what the exported file holds."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.media.media import open_media
from talkverse_jax.media.screen import video_frames
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.worker import make_video
from talkverse_jax.training import loop
from talkverse_jax.training.export import torch_tensor
from talkverse_jax.weights import store
from talkverse_jax.weights.asked import TrainedFile
from talkverse_jax.weights.safetensors_io import read_file
from tests.processes import ROOT
from tests.training import runs

DIT = COMPONENTS["dit"]
_load = functools.cache(TRAINING.load_encoder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> runs.Place:
    return runs.make(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def one_encoder(monkeypatch):
    """The encoders are loaded once for all runs here."""
    family = dataclasses.replace(FAMILY, training=dataclasses.replace(TRAINING, load_encoder=_load))
    monkeypatch.setattr(registry, "find", lambda name: family)


@pytest.fixture
def networks(monkeypatch):
    """The networks that runs load, each with what its trained and its frozen parameters were."""
    seen, load = [], loop.load_network

    def load_network(*args):
        network, params = load(*args)
        seen.append((network, *jax.tree.map(np.array, (params, network.frozen))))
        return network, params

    monkeypatch.setattr(loop, "load_network", load_network)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "none", "framepack", "minimal", "moderate", "aggressive", "full"])
def test_what_is_trained_moves_and_can_be_converted(name, place, networks, tmp_path):
    loop.train(place.options(tmp_path, unfreeze_strategy=name))
    [(network, before, frozen)] = networks
    after = {key.removeprefix("params/"): x for key, x in runs.saved(tmp_path, 3).items() if key[:7] == "params/"}
    assert after.keys() == before.keys() == network.paths.keys()
    trained, still = {}, []
    for key, paths in network.paths.items():
        layers = zip(before[key], after[key]) if len(paths) > 1 else [(before[key], after[key])]
        for path, (old, new) in zip(paths, layers):
            trained.update([torch_tensor(DIT.rules, path, new)])
            still += [path] * np.array_equal(old, new)
    assert not still
    jax.tree.map(np.testing.assert_array_equal, network.frozen, frozen)

    exported = read_file(tmp_path / "step-3.safetensors").tensors
    layer = lambda name: name.partition(".lora_")[0]  # noqa: E731
    published = read_file(place.published["lora_ckpt"]).tensors
    beside = {name for name in published if f"{layer(name)}.weight" not in trained}
    assert exported.keys() == trained.keys() | beside  # what the weights have besides stays with it
    for name_of, value in trained.items():
        np.testing.assert_array_equal(exported[name_of], value)

    place.convert(tmp_path / "converted", tmp_path / "step-3.safetensors", "dit")
    converted = tree.parameters(store.load_module(tmp_path / "converted", DIT))
    laid_over = store.load_module(place.weights, DIT, trained=[TrainedFile(tmp_path / "step-3.safetensors")])
    for path, ours in tree.parameters(laid_over).items():
        np.testing.assert_allclose(converted[path], ours, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.slow
def test_an_exported_file_samples_like_the_preview(place, tmp_path):
    """The preview is what sample.py makes of the converted file."""
    sound, picture = str(ROOT / "assets" / "speech.flac"), str(ROOT / "assets" / "face.png")
    shown = dict(preview_steps=3, preview_image=picture, preview_audio=sound, preview_sample_steps=1)
    loop.train(place.options(tmp_path, unfreeze_strategy="lora", **shown), make_video=make_video)
    weights = place.convert(tmp_path / "converted", tmp_path / "step-3.safetensors", *FAMILY.needed)
    prompt = place.options(tmp_path).preview.preview_prompt
    pipeline = FAMILY.load_pipeline(Weights(str(weights)), Machine(dtype="float32"))
    job = pipeline.job(
        image=picture,
        audio=sound,
        prompt=prompt,
        output=str(tmp_path / "sampled.mp4"),
        size_bucket="tiny-128",
        infer_frames=8,
        num_clip=1,
        sample_steps=1,
        base_seed=0,
    )
    video = make_video(pipeline, job)
    frames = []
    for path in (video, tmp_path / "previews" / "step-3.mp4"):
        with open_media(path, "a video") as container:
            assert container.streams.audio
            frames.append(np.stack([picture for _, picture in video_frames(container)]).astype(int))
    assert frames[0].shape == frames[1].shape == (5, 128, 128, 3)
    assert np.abs(frames[0] - frames[1]).mean() < 1
