"""Seeded random inputs of a reference bundle: the same numbers in every environment. Needs numpy alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from talkverse_jax.core.errors import UserError

Arrays = dict[str, np.ndarray]

MOTION_FRAMES = [73, 19]  # frames and latent frames of motion context
FPS = 25


@dataclasses.dataclass(frozen=True)
class Size:
    """Height and width in pixels, and frames of one clip.

    Raises:
      UserError: a side is not a multiple of 32 from 128 up, or frames not a multiple of 4.
    """

    height: int
    width: int
    frames: int

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if value < 128 or value % 32:
                raise UserError(f"{value}: give a multiple of 32 from 128 up", field=name)
        if self.frames < 4 or self.frames % 4:
            raise UserError(f"{self.frames}: give a multiple of 4", field="frames")

    def latents(self, frames: int | None = None) -> tuple[int, int, int, int]:
        """Shape of latents [C, F, h, w]: those of a clip, or of so many latent frames."""
        return 48, frames or self.frames // 4, self.height // 16, self.width // 16


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def dit_inputs(config: Mapping[str, Any], size: Size, seed: int) -> Arrays:
    """Inputs of one velocity prediction; the text fills three eighths of its rows."""
    rng = np.random.default_rng(seed)
    return {
        "latents": _normal(rng, 1, *size.latents()),
        "ref_latents": _normal(rng, 1, *size.latents(1)),
        "motion_latents": _normal(rng, 1, *size.latents(MOTION_FRAMES[1])),
        "timestep": rng.integers(1, 1000, 1).astype(np.float32),
        "context": _normal(rng, 1, config["text_len"] * 3 // 8, config["text_dim"]),
        "audio": _normal(rng, 1, 25, config["audio_dim"], size.frames),
    }


def vae_inputs(size: Size, seed: int) -> Arrays:
    """A video in [-1, 1] of one frame and then fours, and latents that decode to as many frames."""
    rng = np.random.default_rng(seed)
    video = rng.uniform(-1, 1, (1, 3, size.frames - 3, size.height, size.width)).astype(np.float32)
    return {"video": video, "latents": _normal(rng, 1, *size.latents())}


def umt5_inputs(config: Mapping[str, Any], seed: int, length: int = 512) -> Arrays:
    """Two rows of ids: one full, one of three eighths and padding."""
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < np.array([[length], [length * 3 // 8]])
    return {"ids": rng.integers(1, config["vocab"], mask.shape) * mask, "mask": mask.astype(np.int64)}


def wav2vec2_inputs(size: Size, seed: int) -> Arrays:
    """Noise at 16 kHz as long as a clip."""
    rng = np.random.default_rng(seed)
    return {"waveform": _normal(rng, 1, 16_000 * size.frames // FPS) * np.float32(0.1)}


def pipeline_inputs(dit: Mapping[str, Any], size: Size, clips: int, seed: int) -> Arrays:
    """A picture that must be resized and cropped, sound that ends before the last clip, text and noise."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size.height + 22, size.width + 42, 3), dtype=np.uint8),
        "audio_features": _normal(rng, 25, clips * size.frames - size.frames // 4, dit["audio_dim"]),
        "context": _normal(rng, 1, dit["text_len"] * 3 // 8, dit["text_dim"]),
        "negative_context": _normal(rng, 1, dit["text_len"] // 4, dit["text_dim"]),
        "noise": _normal(rng, clips, *size.latents()),
    }
