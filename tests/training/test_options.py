"""What train.py can be told."""

import json
import subprocess
import sys

import pytest

from talkverse_jax.cli.flags import parse as parse_flags
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse import settings
from talkverse_jax.families.talkverse.training import Dropouts
from talkverse_jax.training.options import TrainOptions, train_groups
from tests.conftest import CONFIGS
from tests.processes import ROOT

NEEDED = ["--weights", "w", "--dataset_metadata_path", "a.csv"]


def parse(*flags: object) -> TrainOptions:
    return TrainOptions(**parse_flags(train_groups(settings), "train.py", "", [*map(str, flags)]))


def test_the_originals_flags_and_defaults():
    options = parse("--weights", "w", "--dataset_metadata_path", "a.csv", "b.csv", "--enable_roi_loss", "true")
    flat = options.flat()
    assert flat["dataset_metadata_path"] == ("a.csv", "b.csv") and flat["enable_roi_loss"]
    for name, value in {
        "learning_rate": 1e-5,
        "warmup_steps": 1000,
        "unfreeze_strategy": "minimal",
        "lora_rank": None,
        "lora_alpha": None,
        "lora_lr_scale": 10.0,
        "audio_zero_init_lr_scaling": 10.0,
    }.items():
        assert flat[name] == value, name
    assert Dropouts.of(options.settings) == (0.1, 0.1, 0.1, 0.1)
    assert parse(*NEEDED, "--finetune_all").tuning.finetune_all
    assert not parse(*NEEDED, "--always_use_motion_frames", "false").videos.always_use_motion_frames


def test_several_data_sets():
    two = ["--weights", "w", "--dataset_metadata_path", "a.csv", "b.csv"]
    options = parse(*two, "--dataset_base_path", "x", "y", "--dataset_repeat", "2", "1", "--dataset_weight", "0.5")
    assert (options.videos.bases, options.repeats, options.weights) == (("x", "y"), (2, 1), (0.5, 0.5))
    options = parse(*two)
    assert (options.videos.bases, options.repeats, options.weights) == (("data", "data"), (1, 1), (1.0, 1.0))
    options = parse("--weights", "w", "--shards", "s", "t", "--dataset_repeat", "3", "1")
    assert (options.input.shards, options.repeats) == (("s", "t"), (3, 1))
    before = {"weights": "w", "shards": None, "dataset_metadata_path": ["a.csv"], "dataset_base_path": "data"}
    assert TrainOptions.build(settings, before, "a checkpoint of before").videos.bases == ("data",)


def test_a_file_holds_lists_and_flags_win(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('weights = "w"\ndataset_metadata_path = ["a.csv", "b.csv"]\nlora_rank = 4\nlora_alpha = 8\n')
    options = parse("--config", file, "--lora_rank", 16)
    assert options.videos.dataset_metadata_path == ("a.csv", "b.csv")
    assert (options.tuning.lora_rank, options.tuning.lora_alpha) == (16, 8.0)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("train_*.toml")), ids=lambda path: path.stem)
def test_the_presets_are_good(file):
    data = [] if "\ndataset_metadata_path" in file.read_text() else ["--shards", "s"]
    assert parse("--config", file, "--weights", "w", *data)


def test_options_survive_json():
    options = parse(*NEEDED, "--lora_alpha", "16")
    assert TrainOptions.build(settings, json.loads(json.dumps(options.flat())), "here") == options


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch_size", 0], "--batch_size 0: give 1 or more"),
        (["--text_dropout_prob", 1.5], "--text_dropout_prob 1.5: give a number from 0 to 1"),
        (["--learning_rate", "nan"], "--learning_rate nan: give a number"),
        (["--ema_decay", 1], "--ema_decay 1.0: give a number from 0 to below 1"),
        (["--num_frames", 0], "--num_frames 0: give 1 or more"),
        (["--size_bucket", "big"], "--size_bucket big: unknown; give one of"),
        (["--shards", "s"], "give either --dataset_metadata_path"),
        (["--preview_steps", 5], "--preview_steps needs --preview_image"),
        (["--previews", "p.jsonl"], "--previews belongs to --preview_steps N"),
        (["--keep_exports", 5], "--keep_exports belongs to --export_steps N"),
        (["--held_out_steps", 0], "--held_out_steps 0: give 1 or more"),
        (["--compile_timeout", 0], "--compile_timeout 0: give 1 or more"),
        (["--export_step", 5], "--export_step belongs to --export"),
        (["--finetune_all", "--unfreeze_strategy", "lora"], "--finetune_all trains every parameter"),
        (["--seed", -1], "--seed -1"),
        (["--dataset_repeat", 0], "--dataset_repeat 0: give 1 or more"),
        (["--dataset_weight", 0], "--dataset_weight 0.0: give a number above 0"),
        (["--dataset_repeat", 1, 2], "--dataset_repeat 2 values for 1 data sets; give one for each, or one for all"),
        (["--dataset_base_path", "a", "b"], "--dataset_base_path 2 values for 1 data sets"),
        (["--mesh", "fsdp=x"], "--mesh 'fsdp=x' is no axis=size"),
    ],
)
def test_what_cannot_be_used_is_told(flags, message):
    with pytest.raises(UserError, match=message):
        parse(*NEEDED, *flags)


def test_unknown_strategy_and_flag():
    with pytest.raises(UserError, match="--unfreeze_strategy all: give none, framepack"):
        parse(*NEEDED, "--unfreeze_strategy", "all")
    with pytest.raises(UserError, match="--lora_rnk: unknown flag, did you mean --lora_rank"):
        parse(*NEEDED, "--lora_rnk", 4)


def test_options_import_no_jax():
    modules = "talkverse_jax.training.options, talkverse_jax.training.prepare_options"
    program = f"import sys, {modules}; print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
