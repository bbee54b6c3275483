"""Random checkpoints have the names, sizes and numbers of the published ones."""

import math
from pathlib import Path

import pytest

from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import ADAPTER

CONFIG = Path(__file__).parent.parent.parent / "configs" / "model_tiny.toml"
PUBLISHED_TALKVERSE_BYTES = 2_095_794_778


def test_a_talkverse_file_of_the_published_size():
    trained = ADAPTER.shapes(FAMILY.components["dit"].torch_shapes(TalkVerseConfig.talkverse_5b()), rank=128)
    assert len(trained) == 640
    assert sum("lora_" in name for name in trained) == 480
    data = sum(dtype.itemsize * math.prod(shape) for dtype, shape in trained.values())
    assert 0 < PUBLISHED_TALKVERSE_BYTES - data < 100_000  # its header


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is a file; give another folder"):
        write_random_checkpoint(FAMILY, tmp_path / "file", FAMILY.configs_from_toml(CONFIG), 0)


def test_the_same_seed_gives_the_same_files(tmp_path):
    configs = FAMILY.configs_from_toml(CONFIG)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_checkpoint(FAMILY, tmp_path / name, configs, seed, components=("dit", "text"))
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file()]
    assert len(files) == 8
    for file in files:
        first, second, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == second
        assert first != other or file.suffix == ".json"
