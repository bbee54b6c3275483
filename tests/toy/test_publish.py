"""Trained parts of the toy model, put together as the real one is published."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.toy.publish import main
from talkverse_jax.weights import store
from talkverse_jax.weights.match import load_torch
from tests.conftest import CONFIGS
from tests.published import converted, files_in

SIZES = CONFIGS / "model_toy.toml"
CONFIGS_TOY = FAMILY.configs_from_toml(SIZES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A transformer as train.py exports it, an autoencoder, and a wav2vec2 as train_audio writes it."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for name in ("dit", "audio"):
        shapes = FAMILY.components[name].torch_shapes(getattr(CONFIGS_TOY, name))
        tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    write_random_checkpoint(FAMILY, folder, CONFIGS_TOY, 1, ("vae",))
    return folder / "dit.safetensors", folder / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.pth", folder / "audio.safetensors"


def publish(trained, output, *more):
    parts = ["--vae", str(trained[1]), "--audio", str(trained[2])]
    main(["--model", str(SIZES), *parts, "--output", str(output), *more])


def test_what_is_published_converts(trained, tmp_path):
    publish(trained, tmp_path / "all", "--dit", str(trained[0]))
    converted(tmp_path / "weights", CONFIGS_TOY, files_in(tmp_path / "all"), dtype="float32")
    for part, path in (("dit", trained[0]), ("audio", trained[2])):
        component = FAMILY.components[part]
        found = tree.parameters(store.load_module(tmp_path / "weights", component, dtype="float32"))
        narrow = ml_dtypes.bfloat16 if part == "dit" else np.float32
        tensors = {n: x.astype(narrow).astype(np.float32) for n, x in load_file(path).items()}
        abstract = component.abstract(getattr(CONFIGS_TOY, part))
        wanted = tree.parameters(load_torch(abstract, component.rules, tensors, "the file"))
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, name)


def test_without_a_transformer_it_is_random(trained, tmp_path):
    publish(trained, tmp_path / "all")
    assert (tmp_path / "all" / "talkverse_s2v_5b.safetensors").exists()
    assert (tmp_path / "all" / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.pth").read_bytes() == trained[1].read_bytes()


def test_a_part_of_a_transformer_is_refused(trained, tmp_path):
    tensors = load_file(trained[0])
    tensors.popitem()
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match="not the whole transformer"):
        publish(trained, tmp_path / "all", "--dit", str(tmp_path / "part.safetensors"))
