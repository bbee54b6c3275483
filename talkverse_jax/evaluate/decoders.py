"""How alike are the pictures of two decoders, and how like the video: PSNR and structural similarity, frame by frame.

Windows of whole pictures are encoded by the VAE and decoded by it and by a tiny decoder; first frames, which have a
way of their own through a VAE, are told apart.
"""

import itertools
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.data.batches import BatchOrder
from talkverse_jax.data.loader import batches
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.evaluate.pictures import luma, ssim_map
from talkverse_jax.pipeline import registry
from talkverse_jax.training.decoder.loss import TINY, VAE
from talkverse_jax.training.decoder.options import DecoderOptions
from talkverse_jax.training.decoder.run import sizes_of
from talkverse_jax.training.decoder.windows import open_windows
from talkverse_jax.weights import store
from talkverse_jax.weights.mapped import read_one
from talkverse_jax.weights.match import load_torch

_PAIRS = {"vae, video": ("vae", "video"), "tiny, video": ("tiny", "video"), "tiny, vae": ("tiny", "vae")}
Measures = dict[str, dict[str, float]]  # by pair and measure


def measure(options: DecoderOptions, file: Path, reporter: Reporter = SILENT) -> Measures:
    """The decoder of a file, on windows of the videos of `options.held_out`.

    Returns:
      By pair: `psnr` of all frames but first ones in decibels, `psnr_first` of these; `ssim`, the least of a frame
      `ssim_least`; `motion`, the mean change from frame to frame over that of the video.

    Raises:
      UserError: the videos or the file cannot be used.
    """
    family = registry.find(registry.family_of(options.weights))
    component, config = family.components[TINY], sizes_of(options, family)
    published = component.adapt(read_one(file).tensors, config)
    tiny = load_torch(component.abstract(config), component.rules, published, str(file), component.ignored)
    vae: Any = store.load_module(options.weights, family.components[VAE], dtype="float32")

    @jax.jit
    def shown(vae: Any, tiny: Any, video: Any) -> dict[str, Any]:
        latents = vae.encode(video.astype(jnp.float32) / 127.5 - 1)
        pictures = {"vae": vae.decode(latents), "tiny": tiny.decode(latents)}
        return {name: jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8) for name, x in pictures.items()}

    found: dict[str, list[dict[str, float]]] = {pair: [] for pair in _PAIRS}
    windows = _windows(options, vae.config.strides, reporter)
    with closing(windows), reporter.bar(options.held_out_videos, "measured", "video") as bar:
        for video in itertools.islice(windows, options.held_out_videos):
            pictures = {name: np.asarray(x)[0] for name, x in shown(vae, tiny, video[None]).items()} | {"video": video}
            for pair, (one, other) in _PAIRS.items():
                found[pair].append(_compared(pictures[one], pictures[other], video))
            bar.update()
    return {pair: _summary(each) for pair, each in found.items()}


def _windows(
    options: DecoderOptions, strides: Any, reporter: Reporter
) -> Generator[UInt8[np.ndarray, "T H W 3"], None, None]:
    """A window of each video."""
    skipped, files = Skipped(Path(options.output_path) / "skipped_held_out.jsonl"), (str(options.held_out),)
    found, source = open_windows(options, files, "held_out", strides, skipped, reporter)
    plan = BatchOrder(found.shapes, 1, options.seed)
    with closing(batches(source, plan, skipped)) as read:
        for loaded in itertools.islice(read, len(found.shapes)):
            if loaded.samples.weight[0]:
                yield loaded.samples.video[0]


def _compared(
    one: UInt8[np.ndarray, "T H W 3"], other: UInt8[np.ndarray, "T H W 3"], video: UInt8[np.ndarray, "T H W 3"]
) -> dict[str, float]:
    errors = np.square(one.astype(np.float32) - other.astype(np.float32)).mean(axis=(1, 2, 3))
    alike = ssim_map(luma(one), luma(other)).mean(axis=(1, 2))
    return {
        "error": float(errors[1:].mean()),
        "error_first": float(errors[0]),
        "ssim": float(alike.mean()),
        "ssim_least": float(alike.min()),
        "change": _change(one),
        "change_of_video": _change(video),
    }


def _change(pictures: UInt8[np.ndarray, "T H W 3"]) -> float:
    """The mean change of a pixel from frame to frame."""
    return float(np.abs(np.diff(pictures.astype(np.float32), axis=0)).mean())


def _summary(each: list[dict[str, float]]) -> dict[str, float]:
    mean = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return {
        "psnr": _decibels(mean["error"]),
        "psnr_first": _decibels(mean["error_first"]),
        "ssim": mean["ssim"],
        "ssim_least": min(one["ssim_least"] for one in each),
        "motion": mean["change"] / max(mean["change_of_video"], 1e-6),
    }


def _decibels(error: float) -> float:
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def table(measures: Measures) -> str:
    """For people."""
    lines = [f"{'':14}{'PSNR':>8}{'first':>8}{'SSIM':>8}{'least':>8}{'motion':>8}"]
    for pair, found in measures.items():
        figures = f"{found['psnr']:8.2f}{found['psnr_first']:8.2f}{found['ssim']:8.4f}{found['ssim_least']:8.4f}"
        lines.append(f"{pair:14}{figures}{found['motion']:8.3f}")
    return "\n".join(lines)
