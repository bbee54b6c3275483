"""The run: what `train.py` does."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.core import tree
from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import check_apart
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.batches import Batch, WindowShape
from talkverse_jax.diffusion.rollout import TEACHER
from talkverse_jax.ops.attention import Attention
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.sharding.distributed import check_same, from_main, is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.export import Exporter
from talkverse_jax.training.feed import Data, Feed, open_data
from talkverse_jax.training.fingerprints import fingerprint
from talkverse_jax.training.held_out import HeldOut
from talkverse_jax.training.history import began_with, follow, keep
from talkverse_jax.training.interruption import Interruption
from talkverse_jax.training.metrics import peak_flops
from talkverse_jax.training.networks import load
from talkverse_jax.training.objective import Objective, objective_of, phase_flops
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.picture import draw_losses
from talkverse_jax.training.preview import MakeVideo, Preview
from talkverse_jax.training.report import Report, Update
from talkverse_jax.training.run_folder import alone, changed, versions, write_config
from talkverse_jax.training.state import from_stored, stored
from talkverse_jax.training.watch import Watch
from talkverse_jax.weights import manifest, store
from talkverse_jax.weights.component import Component


def train(options: TrainOptions, reporter: Reporter | None = None, make_video: MakeVideo | None = None) -> None:
    """Train from the weights, or from where the run in the output folder was stopped, to the end.

    Args:
      reporter: is told how it goes.
      make_video: makes previews; a run without it has none.

    Raises:
      UserError: an option, the weights or the data cannot be used; the run is not the one in the output folder; the
        loss or a gradient makes no sense; a checkpoint cannot be written.
    """
    check_same("options", json.dumps(options.flat() | {"process_id": None}))
    reporter = reporter if reporter and is_main() else Reporter()
    weights = options.input.weights
    family = registry.find(registry.family_of(weights))
    configs = family.configs_from_weights(weights)
    for notice in store.look_over(weights, options.input.verify):
        reporter.say(notice)
    if options.export.export:
        _export(options, family, configs, options.export.export, reporter)
        return
    layout = Layout(training_mesh(options.machine.mesh, family.heads(configs)), TRAINING)
    attention = Attention(layout, options.machine.attention)
    attention.check(jnp.dtype(options.machine.dtype), family.training.head_dim(configs))
    folder = options.folder
    with alone(folder), jax.default_matmul_precision(options.machine.matmul_precision):
        checkpoints = Checkpoints(folder.checkpoints, folder.keep_checkpoints, folder.keep_every, reporter=reporter)
        try:
            data = open_data(options, family.training, configs, reporter)
            with Interruption() as interruption:
                _Loop(options, family, configs, layout, data, checkpoints, reporter, make_video).go(interruption)
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


def _unchanging(options: TrainOptions, family: Family, objective: Objective, data: str) -> dict[str, Any]:
    """By flag, what a run cannot change once it has begun: its state would not fit, or samples be lost."""
    names = ["unfreeze_strategy", "finetune_all", "init", "seed", "batch_size", "num_frames", "optimizer"]
    found: dict[str, Any] = {f"--{name}": options.flat()[name] for name in names}
    component, settings = family.training.component, objective.roles[objective.student].settings
    if options.distil.distils:
        found |= {f"--{name}": options.flat()[name] for name in ("objective", "critic_updates")}
        found["--teacher"] = fingerprint(options.distil.teacher or options.input.weights, component)
    if settings.strategy.lora:
        found |= {"--lora_rank": settings.rank, "--lora_alpha": settings.alpha}
    if files := options.input.trained_files:
        found |= {"--lora_ckpt": _digests(options), "--lora_strength": [file.strength for file in files]}
    return found | {
        "--ema_decay": "on" if options.tuning.ema_decay else "off",
        "data": data,
        "weights": fingerprint(options.input.weights, component),
    }


def _digests(options: TrainOptions) -> list[str]:
    """Of the trained files that a run begins with."""
    return [manifest.sha256(Path(file.path))[:12] for file in options.input.trained_files]


def _export(options: TrainOptions, family: Family, configs: Any, target: str, reporter: Reporter) -> None:
    """What `--export` does.

    Raises:
      UserError: there is no such checkpoint, or its run began with other weights.
    """
    folder, weights = options.folder.checkpoints, options.input.weights
    checkpoints = Checkpoints(folder, read_only=True, reporter=reporter)
    steps, asked = checkpoints.steps(), options.export.export_step
    step = max(steps, default=0) if asked is None else asked
    if step not in steps:
        there = f"the checkpoints are of steps {', '.join(map(str, steps))}" if steps else "there is no checkpoint"
        raise UserError(f"{folder}: {there}; give --output_path of a run, and --export_step of these")
    checkpoints.verify(step)
    record = checkpoints.read_record(step)
    began = TrainOptions.build(registry.settings_of(family.name), record.options, f"{folder}/{step}")
    if record.run["weights"] != fingerprint(weights, family.training.component):
        raise UserError(f"{weights}: the run began with others, {began.input.weights}; give those", field="weights")
    if record.run.get("--lora_ckpt", []) != _digests(began):
        files = ", ".join(began.input.lora_ckpt)
        raise UserError(f"{files}: the run began with other files of these names; put them back")
    component = family.components[family.training.component]
    began = dataclasses.replace(began, input=dataclasses.replace(began.input, weights=weights))  # may have moved
    read = [("--weights", weights), ("the checkpoints", folder), *(("--lora_ckpt", it) for it in began.input.lora_ckpt)]
    check_apart([Path(target)], read, "give another file")
    exporter = _exporter(began, component, objective_of(began, family, configs), options.export.export_dtype)
    exporter.checkpoint(checkpoints, step, Path(target))
    reporter.say(f"{target}: step {step}")


def _exporter(options: TrainOptions, component: Component, objective: Objective, dtype: str) -> Exporter:
    """Of the network that a person is given."""
    role = objective.roles[objective.student]
    within = objective.student if len(objective.rates) > 1 else ""
    return Exporter(options.input.weights, component, role.settings, role.start, dtype, within)


class _Loop:
    """A run between its beginning, which may be a checkpoint, and its end.

    Attributes:
      step: updates made.
      batch: the number of the next one.
      began, saved: updates that were made at the start, and at the last checkpoint.
    """

    def __init__(
        self,
        options: TrainOptions,
        family: Family,
        configs: Any,
        layout: Layout,
        data: Data,
        checkpoints: Checkpoints,
        reporter: Reporter,
        make_video: MakeVideo | None,
    ):
        self.options, self.configs, self.family = options, configs, family
        self.layout, self.data, self.checkpoints, self.reporter = layout, data, checkpoints, reporter
        self.component = family.components[family.training.component]
        self.objective = objective = objective_of(options, family, configs)
        role = objective.roles[objective.student]
        self.settings = role.settings
        self.exporter = _exporter(options, self.component, objective, options.export.export_dtype)
        self.output = Path(options.folder.output_path)
        last = checkpoints.last_record()
        self.unchanging = _unchanging(options, family, objective, began_with(data, last))
        checkpoints.check_continues(self.unchanging)
        if last:
            self._follow(data, last)
        for notice in role.start.notices:
            reporter.say(notice)
        networks = load(objective, self.component, layout)
        self.network, abstract = networks.trained[objective.student].network, networks.states
        self.teacher = networks.frozen.get(TEACHER)
        self.programs = networks.step(objective, options.videos.seed)
        self.step, self.batch, self.watches = 0, 0, {name: Watch() for name in objective.rates}
        if checkpoints.steps():
            networks.params.clear()  # the checkpoint's take their place
            latest = checkpoints.latest(stored(abstract), self.unchanging)
            assert latest is not None, "there are checkpoints"
            self.states, record = from_stored(latest[0], abstract), latest[1]
            self.step, self.batch = record.step, record.batch
            norms = {objective.student: record.norms} | record.norms_beside
            self.watches = {name: Watch(norms[name]) for name in objective.rates}
            if last is None or record.step != last.step:
                self._follow(data, record)
            reporter.say(f"{self.output}: goes on from step {self.step}")
            if others := changed(record.options, options):
                reporter.say(f"{self.output}: goes on with other options ({'; '.join(others)})")
        else:
            self.states = networks.begin()
        self.began = self.saved = self.step
        self.compiled: set[tuple] = set()
        self.data.accept()
        self.kept = keep(self.data, checkpoints)
        self.latest: Any = self.states[objective.student].step
        asked = options.optimization
        left = (self.data.plan.first(asked.num_epochs) - self.batch) // asked.gradient_accumulation_steps
        self.last = min(self.step + max(0, left), asked.max_steps or sys.maxsize)
        if not self.last:
            raise UserError(
                f"{asked.batch_size}: {len(self.data.plan.shapes)} samples make no whole step in {asked.num_epochs} "
                "epochs; give fewer, or more --num_epochs",
                field="batch_size",
            )
        if self.step < self.last <= asked.warmup_steps:
            reporter.say(
                f"--warmup_steps {asked.warmup_steps}: the run ends at step {self.last}, so the learning rate never "
                "gets whole; give fewer"
            )
        self.held_out = None
        if options.curves.held_out:
            self.held_out = HeldOut(options, family, configs, self.network, layout, reporter)
        if is_main():
            of_adapters = {"lora_rank": self.settings.rank, "lora_alpha": self.settings.alpha}
            write_config(options, of_adapters if self.settings.strategy.lora else {}, self._facts())
        self.preview = None
        if options.preview.preview_steps and make_video:
            self.preview = Preview(options, family, self.settings, configs, layout.mesh, make_video)

    def _follow(self, data: Data, record: RunRecord) -> None:
        folder, reporter = self.checkpoints.folder, self.reporter
        self.data = follow(data, record, folder, self.options.videos, reporter)

    def _facts(self) -> dict[str, str]:
        """What else the run is made of."""
        mesh = self.layout.mesh
        devices = list(mesh.devices.flat) if mesh else jax.devices()[:1]
        axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1) if mesh else ""
        return {
            "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
            "data": f"{self.unchanging['data']} ({len(self.data.plan.shapes)} samples)",
            "weights": self.unchanging["weights"],
            "devices": f"{len(devices)} x {devices[0].device_kind}" + (f" ({axes})" if axes else ""),
            "begun": f"from step {self.step}, to step {self.last}",
        }

    def go(self, interruption: Interruption) -> None:
        """To the end, or until the run is interrupted; it is saved then."""
        options = self.options
        workers = 0 if options.input.shards else options.videos.num_workers  # a sample of a shard takes 0.5 ms
        feed = Feed(self.data, self.layout, self.batch, workers, self.reporter)
        mesh = self.layout.mesh
        kinds = [device.device_kind for device in (mesh.devices.flat if mesh else jax.devices()[:1])]
        report = Report(
            options,
            self.objective.rates,
            self.data,
            self.watches,
            self.step,
            self.last,
            lambda: feed.waited,
            peak_flops(kinds, options.machine.dtype),
            self.reporter,
        )
        asked = False
        try:
            with report:
                while self.step < self.last:
                    report.push(self._update(feed, report))
                    self.checkpoints.check()
                    if self.data.skipped.stop and not asked:
                        interruption.ask()
                        asked = True
                    if interrupted := interruption.due(self.step):
                        break
                    if self.held_out and self.step % options.curves.held_out_steps == 0:
                        self._measure(report, self.held_out)
                    if self.step % options.folder.save_steps == 0:
                        self._save(report)
                    if (each := options.export.export_steps) and self.step % each == 0 and self.step < self.last:
                        self._write(report)
                    if self.preview and self.step % options.preview.preview_steps == 0:
                        self._show(report, self.preview)
                else:
                    interrupted = False
                if self.step != self.saved:
                    self._save(report)
                self.checkpoints.wait()
        finally:
            feed.close()
        if self.data.skipped.stop:
            self.reporter.say(f"saved at step {self.step} of {self.last}")
            raise self.data.skipped.stop
        if interrupted:
            self.reporter.say(
                f"interrupted: saved at step {self.step} of {self.last}; the same command goes on from there"
            )
        else:
            self._finish()

    def _update(self, feed: Feed, report: Report) -> Update:
        """Begin the next update."""
        phase, before = self.programs.phase_of(self.step), self.programs.made_before(self.step)
        network = self.objective.phases[phase].network
        sums, batches, flops, limit = None, [], 0.0, self.watches[network].limit
        for place in range(self.options.optimization.gradient_accumulation_steps):
            shape = self.data.plan[self.batch + place].shape
            with self._compiling((phase, shape, place > 0), network, shape, report):
                batch, arrays = feed.next(lambda: self.latest.is_ready())
                sums, samples = self.programs.add_gradients(phase, self.states, arrays, sums)
                self.latest = samples.loss
            batches.append((batch, samples))
            flops += self._flops(batch, phase)
        assert sums is not None, "an update has a batch"
        self.states, metrics = self.programs.update(phase, self.states, sums, limit)
        self.latest = metrics.loss
        self.step, self.batch = self.step + 1, batches[-1][0].number + 1
        return Update(self.step, metrics, batches, limit, flops, network, before)

    @contextmanager
    def _compiling(self, program: tuple, network: str, shape: WindowShape, report: Report) -> Iterator[None]:
        """Around the first run of a program, which compiles it: it is told of, and waited for, so that its time is
        not taken for training's."""
        if program in self.compiled:
            yield
            return
        report.settle()
        self.compiled.add(program)
        kind = "with" if shape.kind == "motion" else "without"
        whose = f" for the {network}" if len(self.objective.rates) > 1 else ""
        self.reporter.say(
            f"step {self.step + 1}: the first batch of {shape.width}x{shape.height} {kind} motion frames{whose}; its "
            "programs are compiled, which takes minutes for a large model, or found in the cache"
        )
        began = time.perf_counter()
        with count_programs() as programs:
            yield
        jax.block_until_ready(self.latest)
        self.reporter.say(f"step {self.step + 1}: it took {time.perf_counter() - began:.0f} s ({programs})")
        report.resume()

    def _flops(self, batch: Batch, phase: int) -> float:
        size = batch.shape.height, batch.shape.width
        return phase_flops(self.objective, phase, self.options, self.family, self.configs, size)

    def _save(self, report: Report) -> None:
        report.settle()  # an update that was not made is no state to go on from
        norms = {name: watch.norms for name, watch in self.watches.items()}
        record = RunRecord(
            step=self.step,
            batch=self.batch,
            run=self.unchanging,
            norms=norms.pop(self.objective.student),
            options=json.loads(json.dumps(self.options.flat())),
            data=self.kept,
            versions=versions(),
            norms_beside=norms,
        )
        self.checkpoints.save(stored(self.states), record)
        self.saved = self.step
        if is_main():
            draw_losses(self.output)
        report.resume()

    def _write(self, report: Report) -> None:
        report.settle()
        began, asked = time.perf_counter(), self.options.export
        target = self._exported(self.step)
        self.exporter.live(self._shown, self.step, target)
        self.reporter.say(f"{target}: the trained tensors of step {self.step} ({time.perf_counter() - began:.0f} s)")
        if asked.keep_exports and is_main():
            self._exported(self.step - asked.keep_exports * asked.export_steps).unlink(missing_ok=True)
        report.resume()

    def _exported(self, step: int) -> Path:
        return self.output / f"step-{step}.safetensors"

    def _measure(self, report: Report, held_out: HeldOut) -> None:
        report.settle()
        values, seconds = held_out.measure(self._shown)
        report.held_out(self.step, values)
        self.reporter.say(f"held-out loss of step {self.step}: {values['held_out/loss']:.4f} ({seconds:.0f} s)")
        report.resume()

    @property
    def _shown(self) -> tree.Flat:
        """The parameters that a person would be given: their running average, where there is one."""
        state = self.states[self.objective.student]
        return state.params if state.ema is None else state.ema

    def _show(self, report: Report, preview: Preview) -> None:
        report.settle()
        for name in preview.names:
            words = ["step", str(self.step), *filter(None, [name])]
            path = self.output / "previews" / f"{'-'.join(words)}.mp4"
            try:
                picture = preview.make(name, self._shown, self.network, path, self.teacher)
            except UserError as error:  # such as frames that are no numbers: no reason to end a run
                self.reporter.say(f"preview of {' '.join(words)}: {error}")
            else:
                if picture is not None:
                    report.picture(self.step, f"preview/{name}" if name else "preview", picture)
        report.resume()

    def _finish(self) -> None:
        target = self._exported(self.step)
        if self.step == self.began and from_main("exported", str(target.exists())) == "True":
            self.reporter.say(f"{target}: is there; the run is at its end (--max_steps, --num_epochs)")
            return
        self.exporter.checkpoint(self.checkpoints, self.step, target)
        self.reporter.say(f"{target}: the trained tensors of step {self.step}")
