"""Trains a tiny decoder against any VAE: what `talkverse-jax train-tiny-decoder` does.

The VAE stays as it is and encodes each window as it comes; those of an update are shared out among the accelerators of
this process. A run that was stopped, or killed, goes on from its last checkpoint and comes out the same.
"""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import presets, tree
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked
from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.data.batches import BatchOrder
from talkverse_jax.data.loader import Loaded, batches
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import PICTURES, picture_layout, split_for
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.decoder.loss import TINY, VAE, ShownLoss, Windows
from talkverse_jax.training.decoder.options import FILE, DecoderOptions
from talkverse_jax.training.decoder.windows import cropped, open_windows
from talkverse_jax.training.fingerprints import fingerprint
from talkverse_jax.training.interruption import Interruption
from talkverse_jax.training.network import Network, kept
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.run_folder import LOCK, versions
from talkverse_jax.training.state import States, from_stored, start, start_abstract, stored
from talkverse_jax.training.step import Phase, Trained, TrainingStep
from talkverse_jax.weights import store
from talkverse_jax.weights.published_files import write_safetensors
from talkverse_jax.weights.rule import torch_tensor

_TOLD = 50  # updates between two lines


def train_decoder(options: DecoderOptions, reporter: Reporter = SILENT) -> Path | None:
    """Train to the end, from where the run in the folder was stopped.

    Returns:
      The file under the published names; None where the run was asked to stop.

    Raises:
      UserError: an option, the weights or the videos cannot be used, or the run is not the one in the folder.
    """
    folder = new_folder(options.output_path)
    with locked(folder / LOCK, f"{folder}: another run is at work in it; let it end, or give another --output_path"):
        checkpoints = Checkpoints(folder / "checkpoints", reporter=reporter)
        try:
            return _Run(options, checkpoints, reporter).go(folder / FILE)
        finally:
            checkpoints.close()


class _Run:
    def __init__(self, options: DecoderOptions, checkpoints: Checkpoints, reporter: Reporter):
        self.options, self.checkpoints, self.reporter = options, checkpoints, reporter
        folder, weights = Path(options.output_path), options.weights
        family = registry.find(registry.family_of(weights))
        if TINY not in family.components:
            raise UserError(f"{weights}: {family.title} has no tiny decoder", field="weights")
        of_vae, self.component = family.components[VAE], family.components[TINY]
        vae = store.load_config(weights, of_vae)
        self.config = sizes_of(options, family)
        self.layout = layout_of(jax.local_devices(), options.batch_size)
        self.skipped = Skipped(folder / "skipped.jsonl")
        files = options.dataset_metadata_path
        found, self.source = open_windows(options, files, "catalogue", vae.strides, self.skipped, reporter)
        self.plan = BatchOrder(found.shapes, options.batch_size, options.seed)
        self.unchanging = {
            f"--{name}": getattr(options, name)
            for name in ("target", "num_frames", "crop", "batch_size", "steps", "learning_rate", "warmup_steps")
        } | {"data": found.digest[:12], "weights": fingerprint(weights, VAE), "sizes": json.dumps(to_dict(self.config))}
        checkpoints.check_continues(self.unchanging)
        network, params = self._network()
        rates = Rates(options.learning_rate, warmup=options.warmup_steps, shape="cosine", steps=options.steps)
        optimizer = make_optimizer(network.groups, rates)
        abstract: States = {TINY: start_abstract(params, optimizer, True)}
        latest = checkpoints.latest(stored(abstract), self.unchanging)
        self.step, self.batch = (latest[1].step, latest[1].batch) if latest else (0, 0)
        self.states = from_stored(latest[0], abstract) if latest else {TINY: start(params, optimizer, True)}
        module = store.load_module(weights, of_vae, dtype="float32", layout=self.layout)
        self.programs = TrainingStep(
            {TINY: Trained(network, optimizer, options.ema_decay)},
            [Phase(TINY, ShownLoss(options.target == "vae"))],
            abstract,
            frozen={VAE: kept(module, self.layout)},
            seed=options.seed,
        )

    def _network(self) -> tuple[Network, tree.Flat]:
        """The decoder without its parameters, and these as they are drawn."""
        make: Any = self.component.model_type
        module = self.component.abstract(self.config, jnp.float32, jnp.dtype(self.options.dtype), self.layout)
        draw = lambda: tree.parameters(make(self.config, rngs=nnx.Rngs(self.options.seed)))  # noqa: E731
        place = self.layout.parameter_sharding(self.component.axes) if self.layout.mesh else lambda *_: None
        shapes = jax.eval_shape(draw)
        params = jax.jit(draw, out_shardings={path: place(path, x.shape) for path, x in shapes.items()})()
        graphdef, params, frozen, paths = tree.divide(tree.with_parameters(module, params), lambda _: True)
        return Network(graphdef, frozen, paths, dict.fromkeys(paths, "rest"), self.layout), params

    def go(self, target: Path) -> Path | None:
        """To the end, or until the run is asked to stop; it is saved then."""
        options, told = self.options, None
        bar = self.reporter.bar(options.steps, "steps", "step", self.step)
        with closing(self._windows()) as windows, Interruption() as interruption, bar as shown:
            while self.step < options.steps:
                due, batch = next(windows)
                sums, samples = self.programs.add_gradients(0, self.states, batch)
                self.states, metrics = self.programs.update(0, self.states, sums)
                self.step, self.batch = self.step + 1, due
                shown.update()
                told = (metrics, samples) if self.step % _TOLD == 0 else told
                if told and self.step % _TOLD == 1:  # a step late, so that devices do not wait
                    self._tell(*told, shown)
                    told = None
                stopped = interruption.due(self.step)
                if stopped or self.step % options.save_steps == 0 or self.step == options.steps:
                    self._save()
                if stopped:
                    self.checkpoints.wait()
                    return None
        self.checkpoints.wait()
        self._write(target)
        return target

    def _windows(self) -> Generator[tuple[int, Windows], None, None]:
        """Batches from where the run is, each with the number of the next."""
        options = self.options
        reading = batches(self.source, self.plan, self.skipped, first=self.batch, workers=options.num_workers)
        with closing(reading) as read:
            for due, loaded in enumerate(read, self.batch + 1):
                yield due, self._placed(loaded)

    def _placed(self, loaded: Loaded) -> Windows:
        samples, video, size = loaded.samples, loaded.samples.video, self.options.crop
        if size:
            ids = loaded.batch.samples
            video = np.stack([cropped(x, size, id.rng(self.options.seed)) for x, id in zip(video, ids, strict=True)])
        height, width = (n // self.config.space_stride for n in video.shape[2:4])
        split = split_for(self.layout, len(video), height, width)
        whole = self.layout.put
        return Windows(split.put(video, *PICTURES), whole(samples.weight), whole(samples.id))

    def _tell(self, metrics: Any, samples: Any, shown: Any) -> None:
        loss, psnr = float(metrics.loss), float(samples.known["psnr"].mean())
        if not np.isfinite(loss):
            raise UserError(
                f"step {self.step}: the loss is {loss}; give a lower --learning_rate", field="learning_rate"
            )
        shown.note(f"loss {loss:.4f}, {psnr:.2f} dB")

    def _save(self) -> None:
        options = json.loads(json.dumps(to_dict(self.options)))
        record = RunRecord(self.step, self.batch, self.unchanging, (), options, versions())
        self.checkpoints.save(stored(self.states), record)

    def _write(self, target: Path) -> None:
        averages: Any = self.states[TINY].ema
        rules, dtype = self.component.rules, np.dtype(np.float16)
        tensors = dict(torch_tensor(rules, path, np.asarray(x)) for path, x in averages.items())
        shapes = {name: (dtype, x.shape) for name, x in tensors.items()}
        write_safetensors(target, shapes, lambda names: (np.ascontiguousarray(tensors[n], dtype) for n in names))


def layout_of(devices: Sequence[Any], windows: int, platform: str | None = None) -> Layout:
    """As many accelerators as divide them share the windows of an update; of CPU devices one makes it.

    Args:
      platform: of the devices, if not their own.
    """
    count = max(n for n in range(1, len(devices) + 1) if windows % n == 0)
    if count == 1 or (platform or devices[0].platform) == "cpu":
        return Layout()
    return picture_layout(Layout(make_mesh(MeshConfig(data=-1), devices[:count], 1)))


def sizes_of(options: DecoderOptions, family: Family) -> Any:
    """The decoder's sizes, which are for the latents of the VAE.

    Raises:
      UserError: they are not, or frames or rows of a window are no whole latents.
    """
    vae = store.load_config(options.weights, family.components[VAE])
    sizes = family.configs_from_toml(presets.find(options.model)) if options.model else family.real_size()
    config = getattr(sizes, TINY)
    if config is None:
        raise UserError(f"{options.model}: has no table [{TINY}]; add one", field="model")
    own, wanted = (config.z_dim, config.time_stride, config.space_stride), (vae.z_dim, *vae.strides)
    if own != wanted:
        raise UserError(
            f"its [{TINY}] is for latents of {own[0]} channels, {own[1]} frames and {own[2]} pixels, the VAE of "
            f"{options.weights} has {wanted[0]}, {wanted[1]} and {wanted[2]}; give sizes for it",
            field="model",
        )
    for name, unit in (("crop", vae.space_stride), ("num_frames", vae.time_stride)):
        if getattr(options, name) % unit:
            raise UserError(f"{getattr(options, name)}: give a multiple of {unit}", field=name)
    return config
