"""A run that is stopped, in whichever way, and goes on: nothing is lost, repeated or different."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.cli.progress import TerminalReporter
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.ledger import Ledger
from talkverse_jax.data.raw import RawSource
from talkverse_jax.families.talkverse import settings as family_settings
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.run.worker import make_video
from talkverse_jax.training import loop
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.training.feed import Feed
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.prepare import prepare
from talkverse_jax.training.prepare_options import PrepareOptions
from talkverse_jax.weights.safetensors_io import read_file
from tests.processes import ROOT
from tests.training import runs
from tests.videos import write_dataset, write_video

STEPS = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> runs.Place:
    return runs.make(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def fed(monkeypatch):
    """The samples of each batch that is asked for."""
    seen, next_ = [], Feed.next

    def next(self, idle):
        batch, arrays = next_(self, idle)
        assert np.array_equal(batch.samples, arrays.ids)
        seen.append(batch.samples)
        return batch, arrays

    monkeypatch.setattr(Feed, "next", next)
    return seen


@pytest.fixture(scope="module")
def straight(place, tmp_path_factory) -> Path:
    """Six steps without a stop."""
    output = tmp_path_factory.mktemp("straight")
    loop.train(place.options(output, max_steps=STEPS, save_steps=3, keep_checkpoints=9, ema_decay=0.5))
    return output


def begin(options: TrainOptions, devices: int = 8) -> subprocess.Popen:
    """The same as a command, in a process of its own; with as many devices as here, numbers are the same bit for
    bit."""
    flags = []
    for name, value in options.flat().items():
        if value is not None and value != ():
            flags += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    environ = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *flags], env=environ, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 150
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.02)


def losses(output: Path) -> list[tuple]:
    """Of every line: the step and what the samples gave."""
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], {k: v for k, v in line.items() if k.startswith(("loss", "gradient"))}) for line in lines]


def check_same_run(output: Path, straight: Path) -> None:
    """Parameters, Adam's state and the running average, bit for bit; and every line of the curves, once."""
    ours, reference = runs.saved(output, STEPS), runs.saved(straight, STEPS)
    assert ours.keys() == reference.keys() and len(ours) > 100
    assert [name for name in ours if not np.array_equal(ours[name], reference[name])] == []
    assert losses(output) == losses(straight)


@pytest.mark.slow
def test_killed_it_goes_on_bit_for_bit(place, straight, fed, tmp_path):
    options = place.options(tmp_path, max_steps=STEPS, save_steps=3, keep_checkpoints=9, ema_decay=0.5)
    process = begin(options)
    wait_for(tmp_path / "checkpoints" / "3", process)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "step-6.safetensors").exists()
    loop.train(options)
    plan = loop.open_data(options, TRAINING, runs.SMALL, Reporter()).plan
    done = STEPS - len(fed)
    assert done >= 3 and fed == [plan[number].samples for number in range(done, STEPS)]
    check_same_run(tmp_path, straight)


def with_names(output: Path, fed: list) -> Counter:
    """How often each sample was shown, by epoch, video and caption."""
    lists = [Ledger.read(path.read_text(), "") for path in (output / "checkpoints" / "data").iterdir()]
    known = {each.number: (each.name, *each.identity[:2]) for one in lists for each in one.members}
    return Counter((id.epoch, *known[id.sample]) for samples in fed for id in samples)


@pytest.mark.slow
def test_it_goes_on_with_changed_data_when_told(place, fed, tmp_path):
    """Of twelve videos two are mended, one has another caption, one is gone, and two are added half-way."""
    data, output = tmp_path / "data", tmp_path / "run"
    metadata = write_dataset(data, 14, 0.6, masks=False)
    rows = metadata.read_text().splitlines()
    metadata.write_text("\n".join(rows[:13]))

    def write(n: int, seconds: float) -> None:
        tone = lambda times: 0.4 * np.sin(2 * np.pi * (200 + 9 * n) * times)  # noqa: E731
        write_video(data / "videos" / f"clip{n}.mp4", seconds, sound=tone)

    for n in range(14):
        write(n, 0.6)
    where = dict(dataset_metadata_path=(str(metadata),), dataset_base_path=str(data), num_epochs=2)
    options = lambda **more: place.options(output, **where | dict(max_steps=None, save_steps=3) | more)  # noqa: E731
    loop.train(options(max_steps=3))
    catalogue = (output / "catalogue.jsonl").read_bytes()
    metadata.write_text("\n".join([rows[0], rows[14], *rows[1:12], rows[13]]).replace("person 3", "nobody"))
    write(5, 0.64)
    write(8, 0.64)
    changes = "of 12 samples 2 have a mended video, 1 has another caption, 1 is gone; 2 are new"
    with pytest.raises(UserError, match=f"not those of step 3: {changes}; give those, or --data_changed go_on"):
        loop.train(options())
    assert (output / "catalogue.jsonl").read_bytes() == catalogue
    half = list(fed)
    loop.train(options(data_changed="go_on", max_steps=5))
    loop.train(options())  # to the end, with no flag: nothing has changed since
    assert (output / "catalogue.jsonl").read_bytes() != catalogue
    shown, before = with_names(output, fed), with_names(output, half)
    assert set(shown.values()) == {1}
    last = max(path for path in (output / "checkpoints" / "data").iterdir() if Ledger.read(path.read_text(), "").batch)
    new = {(each.name, *each.identity[:2]) for each in Ledger.read(last.read_text(), "").present}
    assert len(new) == 13 and len(before) == 6
    left = new - {sample for _, *sample in map(tuple, before) for sample in [tuple(sample)]}
    assert {tuple(sample) for epoch, *sample in shown - before if epoch == 0} == left
    assert {tuple(sample) for epoch, *sample in shown if epoch == 1} <= new
    assert sum(shown.values()) in (6 + len(left) + 13, 6 + len(left) + 12)  # but for half a batch at the end


def begun(straight: Path, output: Path) -> Path:
    """A run that was stopped after three steps."""
    for name in ("3", "data"):
        shutil.copytree(straight / "checkpoints" / name, output / "checkpoints" / name)
    return output


@pytest.mark.slow
def test_it_goes_on_on_another_mesh(place, straight, tmp_path):
    begun(straight, tmp_path)
    process = begin(place.options(tmp_path, max_steps=STEPS, ema_decay=0.5, mesh="fsdp=2"), devices=2)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0 and "goes on from step 3" in said, said
    ours, reference = runs.saved(tmp_path, STEPS), runs.saved(straight, STEPS)
    for name, value in reference.items():
        if name.startswith(("params/", "ema/")):
            assert np.abs(ours[name] - value).max() <= 1e-5 * np.abs(value).max(), name


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(place, tmp_path):
    process = begin(place.options(tmp_path, max_steps=1000, num_epochs=1000, save_steps=1000))
    wait_for(tmp_path / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    [line] = [line for line in said.splitlines() if "interrupted" in line]
    step = int(line.partition("saved at step ")[2].split()[0])
    assert 1 <= step < 1000 and f"step {step} of 1000; the same command goes on from there" in line
    assert runs.saved(tmp_path, step)["step"] == step


@pytest.mark.slow
def test_it_goes_on_as_the_same_run_only(place, straight, tmp_path):
    begun(straight, tmp_path)
    with pytest.raises(UserError, match=r"--batch_size was 2, now 1; .*--seed was 0, now 7\); give what it was begun"):
        loop.train(place.options(tmp_path, ema_decay=0.5, batch_size=1, seed=7))
    with pytest.raises(UserError, match="--ema_decay was on, now off"):
        loop.train(place.options(tmp_path))
    with pytest.raises(UserError, match="--unfreeze_strategy was minimal, now full"):
        loop.train(place.options(tmp_path, ema_decay=0.5, unfreeze_strategy="full"))


def test_at_its_end_it_is_left_as_it_is(place, straight, capsys):
    before = (straight / "step-6.safetensors").stat().st_mtime_ns
    loop.train(
        place.options(straight, max_steps=STEPS, save_steps=3, keep_checkpoints=9, ema_decay=0.5), TerminalReporter()
    )
    assert "the run is at its end" in capsys.readouterr().err
    assert (straight / "step-6.safetensors").stat().st_mtime_ns == before and len(losses(straight)) == STEPS


def test_any_checkpoint_can_be_exported(place, straight, tmp_path):
    target = tmp_path / "three.safetensors"
    ask = lambda **more: place.options(straight, **{"dataset_metadata_path": (), "export": str(target)} | more)  # noqa: E731
    loop.train(ask(export_step=3, export_dtype="bfloat16"))
    file = read_file(target)
    average = runs.saved(straight, 3)["ema/head/linear/bias"]
    assert np.array_equal(file.tensors["head.head.bias"], average.astype(ml_dtypes.bfloat16))
    assert '"step":"3"' in file.header and '"strategy":"minimal"' in file.header
    loop.train(ask())
    assert '"step":"6"' in read_file(target).header
    linked = tmp_path / "linked.safetensors"
    linked.symlink_to(Path(ask().input.weights) / "manifest.json")
    with pytest.raises(UserError, match=r"linked.safetensors: is read too \(--weights .*\); give another file"):
        loop.train(ask(export=str(linked)))
    assert linked.is_symlink()
    with pytest.raises(UserError, match="the checkpoints are of steps 3, 6"):
        loop.train(ask(export_step=4))
    with pytest.raises(UserError, match="there is no checkpoint"):
        loop.train(ask(output_path=str(tmp_path / "none")))


def test_a_loss_that_is_no_number_stops_it(place, tmp_path):
    with pytest.raises(UserError, match=r"step 2: the loss is nan; the update was not made; .*stopped-2.json names"):
        loop.train(place.options(tmp_path, learning_rate=1e30, save_steps=1))
    told = json.loads((tmp_path / "stopped-2.json").read_text())
    [batch] = told["batches"]
    assert batch["batch"] == 1 and [sample["name"].endswith(".mp4") for sample in batch["samples"]] == [True, True]
    assert Checkpoints(tmp_path / "checkpoints", read_only=True).steps() == [1]


@pytest.mark.slow
def test_samples_that_cannot_be_read_do_not_count(place, tmp_path, monkeypatch):
    load = RawSource.load

    def some(self, id, shape):
        if id.sample == 2 or id.epoch == 1:
            raise BadSample("no sound", "for a test")
        return load(self, id, shape)

    monkeypatch.setattr(RawSource, "load", some)
    loop.train(place.options(tmp_path, max_skipped_share=1, max_steps=5))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "loss" in lines[0] and lines[4]["skipped/no sound"] >= 6
    assert "loss" not in lines[4] and lines[4]["gradient_norm/rest"] == 0  # a batch without any
    told = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert {(skip["epoch"], skip["sample"]) for skip in told} >= {(0, 2), *((1, sample) for sample in range(5))}


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self):
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def line(self, words: str) -> str:
        [line] = [line for line in self.said if words in line]
        return line


@pytest.mark.slow
def test_a_stop_for_too_many_skipped_samples_saves_first(place, tmp_path, monkeypatch):
    load, lines = RawSource.load, Lines()

    def some(self, id, shape):
        if id.epoch > 0:
            raise BadSample("no sound", "for a test")
        return load(self, id, shape)

    monkeypatch.setattr(RawSource, "load", some)
    options = place.options(tmp_path, max_steps=40, warmup_steps=50, num_epochs=99)
    with pytest.raises(UserError, match=r"of \d+ samples cannot be used \(no sound: \d+\), more than 5%"):
        loop.train(options, lines)
    [step] = Checkpoints(tmp_path / "checkpoints", read_only=True).steps()
    assert lines.line("saved at step") == f"saved at step {step} of 40" and 1 < step < 40
    assert lines.line("--warmup_steps 50: the run ends at step 40, so the learning rate never gets whole")
    shown = [line for line in lines.said if "the first batch of" in line]
    assert "step 1: the first batch of 128x128 with motion frames" in shown[0] and len(shown) == len(set(shown))

    monkeypatch.setattr(RawSource, "load", load)
    lines = Lines()
    changed = {"max_steps": step + 1, "learning_rate": 1e-4, "warmup_steps": 0, "ema_decay": 0.0}
    loop.train(place.options(tmp_path, num_epochs=99, **changed), lines)
    said = lines.line("goes on with other options")
    assert "--learning_rate was 0.001, now 0.0001; " in said and "--warmup_steps was 50, now 0" in said
    assert runs.saved(tmp_path, step + 1)["step"] == step + 1


@pytest.mark.slow
def test_what_is_written_while_it_goes_on(place, tmp_path):
    """Exports, held-out losses, previews, what it was told, and a picture."""
    (tmp_path / "previews.jsonl").write_text(
        f'{{"id": "a", "guidance": "both", "image": "{ROOT}/assets/face.png", "audio": "{ROOT}/assets/speech.flac"}}'
    )
    output, lines, csv = tmp_path / "run", Lines(), str(place.data / "metadata.csv")
    shown = dict(previews=str(tmp_path / "previews.jsonl"), preview_steps=2, preview_sample_steps=1)
    asked = dict(export_steps=1, keep_exports=2, held_out=csv, held_out_steps=2, save_steps=3, max_steps=4)
    loop.train(place.options(output, **asked, **shown), lines, make_video)
    assert sorted(path.name for path in output.glob("step-*")) == [f"step-{n}.safetensors" for n in (2, 3, 4)]
    loop.train(
        place.options(output, dataset_metadata_path=(), export=str(tmp_path / "three.safetensors"), export_step=3)
    )
    assert (output / "step-3.safetensors").read_bytes() == (tmp_path / "three.safetensors").read_bytes()
    held = [json.loads(line) for line in (output / "held_out.jsonl").read_text().splitlines()]
    assert [line["step"] for line in held] == [2, 4] and held[0]["held_out/loss"] != held[1]["held_out/loss"]
    assert f"held-out loss of step 4: {held[1]['held_out/loss']:.4f}" in lines.line("of step 4:")
    videos = sorted(path.name for path in (output / "previews").glob("*.mp4"))
    assert videos == ["step-2-a-unguided.mp4", "step-2-a.mp4", "step-4-a-unguided.mp4", "step-4-a.mp4"]
    one, other = ((output / "previews" / name).read_bytes() for name in videos[:2])
    assert one != other
    assert (output / "losses.png").exists() and "# data: " in (output / "config.toml").read_text()
    assert not (output / "run.lock").exists()


@pytest.mark.slow
def test_adafactor_goes_on_and_stays(place, tmp_path):
    asked = dict(optimizer="adafactor", schedule="cosine", warmup_steps=1, schedule_steps=5)
    loop.train(place.options(tmp_path / "straight", max_steps=4, **asked))
    loop.train(place.options(tmp_path / "parts", max_steps=2, **asked))
    with pytest.raises(UserError, match="--optimizer was adafactor, now adamw"):
        loop.train(place.options(tmp_path / "parts", max_steps=4))
    loop.train(place.options(tmp_path / "parts", max_steps=4, **asked))
    straight, parts = (runs.saved(tmp_path / name, 4) for name in ("straight", "parts"))
    assert straight.keys() == parts.keys() and any("v_row" in name for name in parts)
    assert [name for name in parts if not np.array_equal(parts[name], straight[name])] == []


@pytest.mark.slow
def test_prepared_data(place, tmp_path):
    data = dict(dataset_metadata_path=(str(place.data / "metadata.csv"),), dataset_base_path=str(place.data))
    prepare(
        PrepareOptions.build(
            family_settings,
            dict(
                weights=str(place.weights),
                output=str(tmp_path / "shards"),
                size_bucket="tiny-128",
                num_frames=8,
                dtype="float32",
                windows=1,
                batch_size=2,
                num_workers=0,
                **data,
            ),
            "here",
        )
    )
    options = place.options(tmp_path / "run", dataset_metadata_path=(), shards=str(tmp_path / "shards"))
    loop.train(options)
    assert [step for step, _ in losses(tmp_path / "run")] == [1, 2, 3]
    with pytest.raises(UserError, match="--num_frames"):
        loop.train(TrainOptions.build(family_settings, options.flat() | {"num_frames": 4}, "here"))
    with pytest.raises(UserError, match="masks of face and body"):
        loop.train(TrainOptions.build(family_settings, options.flat() | {"enable_roi_loss": True}, "here"))
