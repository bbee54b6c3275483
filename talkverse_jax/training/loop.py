"""The run: what `train.py` does."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint
from jax.sharding import Mesh
from tqdm import tqdm

import talkverse_jax
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder
from talkverse_jax.data.batches import Batch
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.flops import training_flops
from talkverse_jax.ops.attention import Attention
from talkverse_jax.sharding.distributed import check_same, from_main, is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.checkpoint import Checkpoints, Record
from talkverse_jax.training.export import export
from talkverse_jax.training.feed import Data, Feed, open_data
from talkverse_jax.training.interruption import Interruption
from talkverse_jax.training.metrics import peak_flops
from talkverse_jax.training.optimizer import make_optimizer
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.preview import Preview
from talkverse_jax.training.report import Report, Update
from talkverse_jax.training.state import load_network, start, start_abstract
from talkverse_jax.training.step import TrainingStep
from talkverse_jax.training.watch import Watch
from talkverse_jax.weights import store


def train(options: TrainOptions) -> None:
    """Train from the weights, or from where the run in the output folder was stopped, to the end.

    Raises:
      UserError: a flag, the weights or the data cannot be used; the run is not the one in the output folder; the
        loss or a gradient makes no sense; a checkpoint cannot be written.
    """
    options = options.checked()
    check_same("options", json.dumps(dataclasses.asdict(options) | {"process_id": None}))
    configs = ModelConfigs.from_weights(options.weights)
    folder = options.checkpoint_path or f"{options.output_path}/checkpoints"
    if options.export:
        _export(options, folder, configs)
        return
    new_folder(options.output_path)
    layout = Layout(training_mesh(options.mesh, configs.dit.trunk.num_heads), TRAINING)
    Attention(layout, options.attention).check(jnp.dtype(options.dtype), configs.dit.trunk.head_dim)
    with jax.default_matmul_precision(options.matmul_precision):
        checkpoints = Checkpoints(folder, options.keep_checkpoints, options.keep_every)
        try:
            data = open_data(options, configs.dit)
            with Interruption() as interruption:
                _Run(options, configs, layout, data, checkpoints).go(interruption)
        finally:
            checkpoints.close()


def training_mesh(asked: str | None, heads: int) -> Mesh | None:
    """The mesh of a run: by default all accelerators are `fsdp`, and of CPU devices the first is taken (None).

    Raises:
      UserError: the axes do not fit the devices or the heads.
    """
    devices = jax.devices()
    if asked is None:
        if len(devices) == 1 or devices[0].platform == "cpu" and jax.process_count() == 1:
            return None
        return make_mesh(MeshConfig(fsdp=-1), devices, heads)
    return make_mesh(MeshConfig.read(asked), devices, heads)


def _fingerprint(weights_dir: str) -> str:
    """The same for weights converted from the same files with the same settings."""
    entry = store.read_manifest(weights_dir)["dit"] | {"version": None}
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:12]


def _unchanging(options: TrainOptions, digest: str) -> dict[str, Any]:
    """By flag, what a run cannot change once it has begun: its state would not fit, or samples be lost."""
    names = ["unfreeze_strategy", "finetune_all", "init", "seed", "batch_size", "num_frames"]
    if options.unfreeze_strategy == "lora":
        names += ["lora_rank", "lora_alpha"]
    return {f"--{name}": getattr(options, name) for name in names} | {
        "--ema_decay": "on" if options.ema_decay else "off",
        "data": digest[:12],
        "weights": _fingerprint(options.weights),
    }


def _export(options: TrainOptions, folder: str, configs: ModelConfigs) -> None:
    """What `--export` does.

    Raises:
      UserError: there is no such checkpoint, or its run began with other weights.
    """
    checkpoints = Checkpoints(folder, read_only=True)
    steps = checkpoints.steps()
    step = max(steps, default=0) if options.export_step is None else options.export_step
    if step not in steps:
        there = f"the checkpoints are of steps {', '.join(map(str, steps))}" if steps else "there is no checkpoint"
        raise UserError(f"{folder}: {there}; give --output_path of a run, and --export_step of these")
    record = checkpoints.read_record(step)
    began = from_dict(TrainOptions, record.options, f"{folder}/{step}")
    if record.run["weights"] != _fingerprint(options.weights):
        raise UserError(f"--weights {options.weights}: the run began with others, {began.weights}; give those")
    settings = began.settings(configs.dit)
    path = export(checkpoints, step, options.export, options.weights, settings, options.export_dtype)
    say(f"{path}: step {step}")


class _Run:
    """A run between its beginning, which may be a checkpoint, and its end.

    Attributes:
      step: updates made.
      batch: the number of the next one.
    """

    def __init__(
        self,
        options: TrainOptions,
        configs: ModelConfigs,
        layout: Layout,
        data: Data,
        checkpoints: Checkpoints,
    ):
        self.options, self.configs, self.settings = options, configs, options.settings(configs.dit)
        self.layout, self.data, self.checkpoints = layout, data, checkpoints
        self.output = Path(options.output_path)
        self.unchanging = _unchanging(options, data.digest)
        checkpoints.check_continues(self.unchanging)
        self.network, params = load_network(options.weights, self.settings, layout)
        optimizer = make_optimizer(self.network.groups, options.rates)
        abstract = start_abstract(params, optimizer, options.ema_decay > 0)
        self.step, self.batch, self.watch = 0, 0, Watch()
        if checkpoints.steps():
            del params  # the checkpoint's take their place
            self.state, record = checkpoints.latest(abstract, self.unchanging)
            self.step, self.batch, self.watch = record.step, record.batch, Watch(record.norms)
            say(f"{self.output}: goes on from step {self.step}")
        else:
            self.state = start(params, optimizer, options.ema_decay > 0)
        self.saved = self.step
        self.programs = TrainingStep(self.network, optimizer, options.objective, abstract, options.ema_decay)
        self.latest: jax.Array = self.state.step
        left = (data.plan.first(options.num_epochs) - self.batch) // options.gradient_accumulation_steps
        self.last = min(self.step + max(0, left), options.max_steps or sys.maxsize)
        if not self.last:
            raise UserError(
                f"--batch_size {options.batch_size}: {len(data.plan.shapes)} samples make no whole step in "
                f"{options.num_epochs} epochs; give fewer, or more --num_epochs"
            )
        self.preview = Preview(options, self.settings, configs, layout.mesh) if options.preview_steps else None

    def go(self, interruption: Interruption) -> None:
        """To the end, or until the run is interrupted; it is saved then."""
        workers = 0 if self.options.shards else self.options.num_workers  # a sample of a shard takes 0.5 ms
        feed = Feed(self.data, self.layout, self.batch, workers)
        mesh = self.layout.mesh
        kinds = [device.device_kind for device in (mesh.devices.flat if mesh else jax.devices()[:1])]
        peak = peak_flops(kinds, self.options.dtype)
        report = Report(self.options, self.data, self.watch, self.step, self.last, lambda: feed.waited, peak)
        try:
            with report:
                while self.step < self.last:
                    report.push(self._update(feed))
                    self.checkpoints.check()
                    if interrupted := interruption.due(self.step):
                        break
                    if self.step % self.options.save_steps == 0:
                        self._save(report)
                    if self.preview and self.step % self.options.preview_steps == 0:
                        self._show(report)
                else:
                    interrupted = False
                if self.step != self.saved:
                    self._save(report)
                self.checkpoints.wait()
        finally:
            feed.close()
        if interrupted:
            say(f"interrupted: saved at step {self.step} of {self.last}; the same command goes on from there")
        else:
            self._finish()

    def _update(self, feed: Feed) -> Update:
        """Begin the next update."""
        sums, batches, flops, limit = None, [], 0.0, self.watch.limit
        for _ in range(self.options.gradient_accumulation_steps):
            batch, arrays = feed.next(lambda: self.latest.is_ready())
            sums, samples = self.programs.add_gradients(self.state.params, arrays, sums)
            self.latest = samples.loss
            batches.append((batch, samples))
            flops += self._flops(batch)
        self.state, metrics = self.programs.update(self.state, sums, limit)
        self.latest = metrics.loss
        self.step, self.batch = self.step + 1, batch.number + 1
        return Update(self.step, metrics, batches, limit, flops)

    def _flops(self, batch: Batch) -> float:
        strides = self.configs.vae.strides
        return len(batch.samples) * training_flops(
            self.configs.dit,
            self.options.num_frames // strides.time,
            batch.shape.height // strides.space,
            batch.shape.width // strides.space,
            trained_blocks=self.settings.strategy.whole_blocks,
        )

    def _save(self, report: Report) -> None:
        report.settle()  # an update that was not made is no state to go on from
        record = Record(
            step=self.step,
            batch=self.batch,
            run=self.unchanging,
            norms=self.watch.norms,
            options=to_dict(self.options),
            versions={m.__name__: m.__version__ for m in (talkverse_jax, jax, flax, optax, orbax.checkpoint)},
        )
        self.checkpoints.save(self.state, record)
        self.saved = self.step
        report.resume()

    def _show(self, report: Report) -> None:
        report.settle()
        params = self.state.params if self.state.ema is None else self.state.ema
        picture = self.preview.make(params, self.network, self.output / "previews" / f"step-{self.step}.mp4")
        if picture is not None:
            report.picture(self.step, picture)
        report.resume()

    def _finish(self) -> None:
        target = self.output / f"step-{self.step}.safetensors"
        if from_main("exported", str(target.exists())) == "True":
            say(f"{target}: is there; the run is at its end (--max_steps, --num_epochs)")
            return
        export(self.checkpoints, self.step, target, self.options.weights, self.settings, self.options.export_dtype)
        say(f"{target}: the trained tensors of step {self.step}")


def say(line: str) -> None:
    """A line of the main process, beside the progress bar."""
    if is_main():
        tqdm.write(line, file=sys.stderr)
