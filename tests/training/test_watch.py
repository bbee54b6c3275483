"""The guard over the gradient's norm."""

import json
import math

import pytest

from talkverse_jax.training.watch import Watch, refuse


def test_a_few_norms_make_no_limit():
    watch = Watch()
    for _ in range(9):
        watch.see({"rest": 1.0})
    assert watch.limit == math.inf
    watch.see({"rest": 1.0})
    assert watch.limit == 100.0


def test_the_limit_is_of_the_median_of_the_largest_group():
    watch = Watch()
    for norm in range(1, 12):
        watch.see({"rest": 0.1, "lora": float(norm)})
    assert watch.limit == 600.0


def test_only_the_last_hundred_count():
    watch = Watch()
    for norm in [1000.0] * 100 + [2.0] * 100:
        watch.see({"rest": norm})
    assert watch.limit == 200.0 and len(watch.norms) == 100


def test_updates_without_a_sample_make_nothing_usual():
    watch = Watch([0.0] * 60 + [2.0] * 10)  # as older checkpoints hold them
    for _ in range(80):
        watch.see({"rest": 0.0, "lora": 0.0})
    assert watch.limit == 200.0 and watch.norms == (2.0,) * 10


def test_it_goes_on_where_it_was():
    watch = Watch()
    for norm in range(1, 20):
        watch.see({"rest": float(norm)})
    assert Watch(watch.norms).limit == watch.limit


@pytest.mark.parametrize(
    ("loss", "norms", "said"),
    [
        (math.nan, {"rest": math.nan}, "the loss is nan"),
        (1.0, {"rest": 1.0, "lora": math.inf}, "the gradient of lora is inf"),
        (1.0, {"rest": 300.0, "lora": 1.0}, "the gradient of rest has norm 300, 100 times the usual is 200"),
    ],
)
def test_what_is_told_and_kept(tmp_path, loss, norms, said):
    samples = [{"name": "clip.mp4", "epoch": 1, "sample": 3, "timestep": 400, "loss": loss, "weight": 1.0}]
    error = refuse(tmp_path, 12, loss, norms, 200.0, [{"batch": 11, "samples": samples}])
    assert str(error).startswith(f"step 12: {said}; the update was not made;") and "\n" not in str(error)
    kept = json.loads((tmp_path / "stopped-12.json").read_text())  # strict JSON, NaN as text
    assert kept["batches"][0]["samples"][0]["name"] == "clip.mp4" and kept["step"] == 12
