"""Trains the tiny autoencoder: `python -m talkverse_jax.toy.train_vae --config configs/vae_toy.toml`.

What it learns is to give back videos (`vae_loss`) while noise lies on the latents, so that near latents mean near
pictures. It begins as a linear codec (vae_start.py). At the end the latents' mean and deviation are folded into the
layers around them: the config's are 0 and 1. The same command goes on where it was stopped; the result is
`OUTPUT/Wan2.2_VAE.pth`, as the original's is published.
"""

import dataclasses
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import optax.contrib
from jaxtyping import Array, Float
from tqdm import tqdm

import talkverse_jax
from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.flags import parse
from talkverse_jax.cli.progress import TerminalReporter
from talkverse_jax.core import compile_cache, presets, tree
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.core.paths import new_folder
from talkverse_jax.data.batches import BatchOrder
from talkverse_jax.data.catalogue import VideoRules, accept
from talkverse_jax.data.loader import batches
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.windows import Lengths
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import VAE_FILE
from talkverse_jax.media.fit import to_unit
from talkverse_jax.models.vae.coders import Cache
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.toy.vae_start import linear_codec
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.interruption import Interruption
from talkverse_jax.training.state import TrainState, start_abstract
from talkverse_jax.training.videos import look_at
from talkverse_jax.weights.rule import torch_tensor
from talkverse_jax.weights.torch_writer import write_torch

_NOISE = 0.15  # on the latents
_SMALL = 1e-4  # weight of the latents' mean square: noise must not be drowned
_FIRST = 2.0  # weight of a window's first frame, which has a way of its own through the layers
_SECOND = 4.0  # weight of what its error and the second frame's differ by, or a video begins with a flash
_SEAM = 2.0  # weight of what errors differ by where latent frames meet
_MOVING = 5.0  # weight of a pixel's standard deviation over a window, which is 0 to 1: mouths are small, and matter
_SILENT = 0.3  # of the windows may be left out: in pauses, which are silent, the reader takes none
_START = 48  # windows that the linear codec is fitted to
_MEASURED = 64  # windows that the latents' mean and deviation are measured on
_WARMUP = 50  # updates


@dataclasses.dataclass(frozen=True)
class VaeOptions:
    """One run of `talkverse_jax.toy.train_vae`."""

    model: str = option("TOML file of sizes; its table [vae]", group="input", metavar="FILE")
    dataset_metadata_path: tuple[str, ...] = option(
        "CSV files with video_path (docs/data.md)", group="input", metavar="FILE"
    )
    dataset_base_path: str = option(
        "folder that the paths in the CSV start from", group="input", metavar="DIR", default="data"
    )
    size_bucket: str = option("table of sizes", group="input", metavar="NAME", default="tiny-128")
    output_path: str = option("the run's folder", group="output", metavar="DIR", default="vae_output")
    save_steps: int = option("steps between checkpoints", group="output", metavar="N", default=250, least=1)
    num_frames: int = option(
        "frames after a window's first one, a multiple of 4", group="training", metavar="N", default=8, least=4
    )
    crop: int = option(
        "rows and columns of a window, a multiple of 16", group="training", metavar="N", default=64, least=16
    )
    crops: int = option("crops of each window that is read", group="training", metavar="N", default=2, least=1)
    steps: int = option("updates", group="training", metavar="N", default=5000, least=1)
    learning_rate: float = option("the highest; falls to 0 as a cosine", group="training", metavar="X", default=2e-3)
    seed: int = option("of everything random", group="training", metavar="N", default=0, least=0)

    def __post_init__(self):
        check_bounds(self)
        for name, unit in (("crop", 16), ("num_frames", 4)):
            if getattr(self, name) % unit:
                raise UserError(f"{getattr(self, name)}: give a multiple of {unit}", field=name)


class Losses(NamedTuple):
    """Of a batch; `psnr` in decibels, of pixels but for first frames."""

    loss: Float[Array, ""]
    psnr: Float[Array, ""]
    spread: Float[Array, ""]  # of the latents


def in_two_chunks(coder: Callable[..., tuple[Array, Cache]], x: Float[Array, "B T ..."]) -> Float[Array, "B F ..."]:
    """What `WanVAE.encode` or `decode` gives, by `encode_chunk` or `decode_chunk`: all but the first at once, for
    whoever has memory for it."""
    first, cache = coder(x[:, :1])
    return jnp.concatenate([first, coder(x[:, 1:], cache)[0]], axis=1)


def vae_loss(vae: WanVAE, video: Float[Array, "B T H W 3"], key: jax.Array) -> tuple[Float[Array, ""], Losses]:
    """Mean absolute error of pixels, and of their differences with their neighbours below, on the right and in the
    next frame; pixels that move count more."""
    latents = in_two_chunks(vae.encode_chunk, video)
    shown = in_two_chunks(vae.decode_chunk, latents + _NOISE * jax.random.normal(key, latents.shape))
    weight = 1 + _MOVING * video.std(axis=1, keepdims=True).mean(axis=-1, keepdims=True)
    error = weight * (shown - video)
    steps = jnp.abs(jnp.diff(error, axis=1)).mean(axis=(0, 2, 3, 4))
    at = np.arange(len(steps))
    steps *= np.where(at == 0, _SECOND, np.where(at % vae.config.time_stride == 0, _SEAM, 1.0))
    error *= jnp.where(jnp.arange(video.shape[1]) == 0, _FIRST, 1.0)[:, None, None, None]
    edges = sum(jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (2, 3))
    loss = jnp.abs(error).mean() + steps.mean() + edges + _SMALL * jnp.square(latents).mean()
    psnr = -10 * jnp.log10(jnp.square(shown - video)[:, 1:].mean() / 4)
    return loss, Losses(loss, psnr, latents.std())


class _Run:
    def __init__(self, options: VaeOptions):
        self.options = options
        self.folder = new_folder(options.output_path)
        self.config = FAMILY.configs_from_toml(presets.find(options.model)).vae
        self.skipped = Skipped(self.folder / "skipped.jsonl", share=_SILENT)
        lengths = Lengths(options.num_frames, 1, True, strides=self.config.strides)
        rules = VideoRules(options.size_bucket, lengths)
        cache = self.folder / "catalogue.jsonl"
        files, base = options.dataset_metadata_path, options.dataset_base_path
        found, self.source = look_at(files, base, rules, options.seed, cache, self.skipped, TerminalReporter())
        accept(cache)
        self.plan = BatchOrder(found.shapes, 1, options.seed)
        end = max(options.steps, _WARMUP + 1)
        rate = optax.warmup_cosine_decay_schedule(0, options.learning_rate, _WARMUP, end)
        self.optimizer = _optimizer(rate)
        sizes = to_dict(self.config)
        for name in ("pixel_patch", "shortcuts"):  # always the same, and runs of before do not know them
            del sizes[name]
        self.unchanging = {
            f"--{name}": getattr(options, name)
            for name in ("steps", "num_frames", "crop", "crops", "learning_rate", "seed")
        } | {"data": found.digest[:12], "vae": str(sizes)}
        self.update = jax.jit(self._update, donate_argnums=0)

    def model(self, params: tree.Flat) -> WanVAE:
        return tree.with_parameters(tree.abstract(WanVAE, self.config), dict(params))

    def windows(self, first: int) -> Generator[tuple[int, Float[np.ndarray, "T H W 3"]], None, None]:
        """The windows that can be read from number `first` on, each with the number that comes next."""
        with closing(batches(self.source, self.plan, self.skipped, first=first, threads=2)) as read:
            for due, loaded in enumerate(read, first + 1):
                if loaded.samples.weight[0]:
                    yield due, loaded.samples.video[0]

    def crops(self, first: int) -> Generator[tuple[int, Float[np.ndarray, "crops T h w 3"]], None, None]:
        """Crops of those windows, the middle more often than the sides: faces are there."""
        options, size = self.options, self.options.crop
        for due, video in self.windows(first):
            rng = np.random.default_rng([options.seed, due])
            crops = []
            for _ in range(options.crops):
                y, x = (int(rng.integers(0, length - size + 1, 2).sum()) // 2 for length in video.shape[1:3])
                crop = video[:, y : y + size, x : x + size]
                crops.append(crop[:, :, ::-1] if rng.integers(2) else crop)
            yield due, np.stack(crops)

    def begin(self) -> TrainState:
        """The linear codec."""
        with closing(self.crops(0)) as read:
            video = np.stack([next(read)[1][0] for _ in range(_START)])
        rng = np.random.default_rng(self.options.seed)
        params = tree.parameters(linear_codec(self.config, jnp.asarray(to_unit(video[:, 1:])), rng))
        return TrainState(params, self.optimizer.init(params), jnp.int32(0), None)

    def _update(self, state: TrainState, video) -> tuple[TrainState, Losses]:
        video = video.astype(jnp.float32) / 255 * 2 - 1
        key = jax.random.fold_in(jax.random.key(self.options.seed), state.step)
        of_params = lambda params: vae_loss(self.model(params), video, key)  # noqa: E731
        gradients, losses = jax.grad(of_params, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return TrainState(params, optimizer, state.step + 1, None), losses

    def train(self, checkpoints: Checkpoints) -> TrainState | None:
        """The state after the last update; None where the run was asked to stop."""
        steps = self.options.steps
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = tree.parameters(tree.abstract(WanVAE, self.config))
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one) for name, x in shapes.items()}
        found = checkpoints.latest(start_abstract(shapes, self.optimizer, ema=False), self.unchanging)
        state, step, due = (found[0], found[1].step, found[1].batch) if found else (self.begin(), 0, 0)
        bar = tqdm(total=steps, initial=step, desc="steps", unit="step", dynamic_ncols=True)
        with closing(self.crops(due)) as read, Interruption() as interruption, bar:
            while step < steps:
                due, video = next(read)
                state, losses = self.update(state, jnp.asarray(video))
                step += 1
                bar.update()
                if step % 50 == 0:
                    bar.set_postfix(loss=f"{losses.loss:.4f}", psnr=f"{losses.psnr:.2f}", z=f"{losses.spread:.2f}")
                stopped = interruption.due(step)
                if stopped or step % self.options.save_steps == 0 or step == steps:
                    self.save(checkpoints, state, step, due)
                if stopped:
                    checkpoints.wait()
                    return None
        checkpoints.wait()
        return state

    def save(self, checkpoints: Checkpoints, state: TrainState, step: int, due: int) -> None:
        versions = {"talkverse_jax": talkverse_jax.__version__, "jax": jax.__version__}
        checkpoints.save(state, RunRecord(step, due, self.unchanging, (), to_dict(self.options), versions))

    def normalised(self, params: tree.Flat) -> tree.Flat:
        """With latents of mean 0 and deviation 1, measured on whole pictures."""
        model, z = self.model(params), self.config.z_dim
        encode = jax.jit(lambda vae, video: vae.encode(to_unit(video)))
        with closing(self.windows(0)) as read:
            found = [np.asarray(encode(model, next(read)[1][None])).reshape(-1, z) for _ in range(_MEASURED)]
        latents = np.concatenate(found)
        mean, std = latents.mean(0), latents.std(0)
        new = {name: np.array(value) for name, value in params.items()}
        new["quant_conv/kernel"][:, :z] /= std
        new["quant_conv/bias"][:z] = (new["quant_conv/bias"][:z] - mean) / std
        new["post_quant_conv/bias"] += mean @ new["post_quant_conv/kernel"]
        new["post_quant_conv/kernel"] *= std[:, None]
        return new


def _optimizer(rate: optax.Schedule) -> optax.GradientTransformation:
    """Muon for kernels, as matrices of all that a channel sees; Adam for the rest."""

    def matrix(value: Array) -> optax.contrib.MuonDimensionNumbers | None:
        axes = tuple(range(value.ndim))
        return optax.contrib.MuonDimensionNumbers(axes[:-1], axes[-1:]) if value.ndim > 1 else None

    return optax.contrib.muon(
        rate,
        adam_learning_rate=lambda step: 0.2 * rate(step),
        muon_weight_dimension_numbers=lambda params: jax.tree.map(matrix, params),
        weight_decay=0.0,
    )


def write_vae(path: Path, params: tree.Flat) -> None:
    """The autoencoder under the names of the original, in bfloat16."""
    rules = COMPONENTS["vae"].rules
    tensors = dict(torch_tensor(rules, path, x.astype(ml_dtypes.bfloat16)) for path, x in params.items())
    write_torch(path, {name: (x.dtype, x.shape) for name, x in tensors.items()}, tensors.values())


def train_vae(options: VaeOptions) -> Path | None:
    """Train to the end, from where the run in the folder was stopped.

    Returns:
      The published file; None where the run was asked to stop.
    """
    run, target = _Run(options), Path(options.output_path) / VAE_FILE
    checkpoints = Checkpoints(f"{options.output_path}/checkpoints", reporter=TerminalReporter())
    try:
        state = run.train(checkpoints)
    finally:
        checkpoints.close()
    if state is None:
        return None
    write_vae(target, run.normalised(state.params))
    return target


def main(argv: list[str] | None = None) -> None:
    description = "Train the tiny autoencoder on videos."
    options = parse({"train_vae": VaeOptions}, "talkverse_jax.toy.train_vae", description, argv)["train_vae"]
    compile_cache.enable()
    target = train_vae(options)
    print(f"{target or 'interrupted: saved; the same command goes on from there'}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
