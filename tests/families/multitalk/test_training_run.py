"""Videos of one person and of two become shards and a trained file, by the same commands as every family's."""

import json

import numpy as np
import pytest
import soundfile

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.families.multitalk.settings import Sources
from talkverse_jax.pipeline import registry
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.weights.safetensors_io import read_file
from tests.families.multitalk.tiny import TINY
from tests.second.places import run
from tests.videos import write_csv, write_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with weights, and videos of a second, the second of which has two people."""
    folder = tmp_path_factory.mktemp("multitalk")
    family = registry.find("multitalk")
    published = write_random_checkpoint(family, folder / "published", TINY, seed=0)
    sources = Sources(**{flag: str(path) for flag, path in published.items()})
    convert(family, ConvertOptions(output=str(folder / "weights"), dtype="keep"), sources, TINY)
    times = np.arange(16_000) / 16_000
    for name, pitch in (("a", 220), ("b", 330)):
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * pitch * times), 16_000)
    rows = [{"video_path": f"{number}.mp4", "caption": f"person {number} talks"} for number in range(4)]
    rows[1] |= {"sounds": "a.wav;b.wav", "boxes": "4,2,60,30;4,34,60,60"}
    for row in rows:
        write_video(folder / row["video_path"], 1.0, size=(64, 64))
    write_csv(folder / "metadata.csv", rows)
    return folder


def flags(place, output, **changes):
    values = dict(weights=place / "weights", dataset_metadata_path=place / "metadata.csv", dataset_base_path=place)
    values |= dict(size_bucket="multitalk-tiny", num_frames=12, motion_frame=5, first_clip_prob=0.5, speakers=2)
    values |= dict(output_path=output, num_workers=0, dtype="float32", remat="none", batch_size=2, max_steps=2)
    values |= dict(unfreeze_strategy="lora", lora_rank=4, lora_alpha=4, learning_rate=1e-3, warmup_steps=0)
    return values | dict(log_interval=1, save_steps=1, use_tensorboard="false") | changes


def losses(output):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def saved(output, step):
    checkpoints = Checkpoints(output / "checkpoints", read_only=True)
    return {name: np.asarray(x) for name, x in checkpoints.read_state(step, checkpoints.arrays(step)).items()}


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    run("train", **flags(place, output))
    return output


def test_a_run_goes_on_to_the_same_numbers(place, trained, tmp_path):
    run("train", **flags(place, tmp_path, max_steps=1))
    run("train", **flags(place, tmp_path))
    straight, resumed = saved(trained, 2), saved(tmp_path, 2)
    assert straight.keys() == resumed.keys() and losses(trained) == losses(tmp_path)
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value, name)


def test_what_was_learnt_is_exported(place, trained, tmp_path):
    run("train", **flags(place, trained, export=tmp_path / "learnt.safetensors"))
    tensors = read_file(tmp_path / "learnt.safetensors").tensors
    assert "blocks.0.cross_attn.k_img.lora_A.weight" in tensors and "audio_proj.proj1.weight" in tensors
    assert not any("audio_cross_attn" in name and "lora" in name for name in tensors)


def test_samples_are_prepared_and_trained_on(place, trained, tmp_path):
    every = flags(place, tmp_path / "run")
    of_samples = ("size_bucket", "num_frames", "motion_frame", "first_clip_prob", "speakers", "num_workers", "dtype")
    kept = ("weights", "dataset_metadata_path", "dataset_base_path", *of_samples)
    run("prepare", **{name: every[name] for name in kept}, output=tmp_path / "shards")
    own = {name: value for name, value in every.items() if not name.startswith("dataset")}
    run("train", **own, shards=tmp_path / "shards")
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(trained), rtol=1e-5)
