"""Windows of video to prepared samples, by the three frozen models.

Shapes: B windows of T frames, of which F latent frames are to be learnt; H W pixels, h w latent grid,
C latent channels, A audio width.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from talkverse_jax.data.prepared import PreparedBatch
from talkverse_jax.data.raw import RawSample
from talkverse_jax.families.talkverse.alignment import clip_audio, first_row
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.settings import AudioAlignment, WindowSettings
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.sample_encoding import CaptionEncoder, encode_latents, local_mesh, on_cpu, precision
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import store


class WindowEncoder:
    """The VAE, wav2vec2 and UMT5, on the devices of this process alone: each process encodes what it has read.

    A batch's pictures are one call of the VAE, its sounds one of wav2vec2; captions are encoded one by one, each
    once while it is remembered.

    Args:
      text_len: rows of the text, D wide.
      motion_latents: latent frames of the motion context (19).
      alignment: which audio rows a window without motion context hears, see families/talkverse/alignment.py.
      dtype: of the latents and hidden states that are made.
      text_on_cpu: the text encoder lies there.
    """

    def __init__(
        self,
        vae: WanVAE,
        audio: AudioEncoder,
        text: TextEncoder,
        *,
        text_len: int,
        motion_latents: int,
        alignment: AudioAlignment = "exact",
        dtype: str = "bfloat16",
        text_on_cpu: bool = False,
    ):
        self.dtype = jnp.dtype(dtype)
        self.vae, self.audio = vae, audio
        self.captions = CaptionEncoder(text, text_len, self.dtype, on_cpu=text_on_cpu)
        self.motion_latents = motion_latents
        self.alignment: AudioAlignment = alignment
        self._null_text = self.captions([""])[0]

    @classmethod
    def load(
        cls,
        weights_dir: str,
        settings: WindowSettings,
        *,
        dtype: str = "bfloat16",
        text_on_cpu: bool = False,
    ) -> "WindowEncoder":
        """The models of a folder of converted weights: VAE and wav2vec2 in float32, UMT5 in `dtype`.

        Raises:
          UserError: one of them is missing or damaged.
        """
        layouts = component_layouts(local_mesh(), COMPONENTS.values())
        config = store.load_config(weights_dir, COMPONENTS["dit"])

        def load(name: str, dtype: str, layout: Layout) -> Any:
            return store.load_module(weights_dir, COMPONENTS[name], dtype=dtype, layout=layout)

        with on_cpu(text_on_cpu):
            text = load("text", dtype, Layout() if text_on_cpu else layouts["text"])
        return cls(
            load("vae", "float32", layouts["vae"]),
            AudioEncoder(load("audio", "float32", layouts["audio"])),
            TextEncoder(text, load_tokenizer(store.folder_of(weights_dir, "text") / "tokenizer")),
            text_len=config.trunk.text_len,
            motion_latents=config.motion_latent_frames,
            alignment=settings.audio_alignment,
            dtype=dtype,
            text_on_cpu=text_on_cpu,
        )

    @property
    def constants(self) -> Mapping[str, Float[np.ndarray, "text_len D"]]:
        """The hidden states of the empty caption."""
        return {"null_text": self._null_text}

    def encode(self, batch: RawSample) -> PreparedBatch:
        """A batch of windows of one size and kind, encoded; all arrays are in host memory.

        A slot without a sample (weight 0) holds finite values that mean nothing.
        """
        with jax.default_matmul_precision(precision(self.dtype)):
            window, reference = self._latents(batch.video), self._latents(batch.reference[:, None])
            sound = self.audio.encode_windows(batch.waveform).astype(self.dtype)
        text = self.captions(batch.caption)
        learnt = batch.face.shape[1]
        window, reference = np.asarray(window), np.asarray(reference)
        motion, target = window[:, :-learnt], window[:, -learnt:]
        alone = motion.shape[1] == 0
        if alone:
            motion = np.zeros((len(window), self.motion_latents, *window.shape[2:]), window.dtype)
        frames = self.vae.config.time_stride * learnt
        start = (
            first_row(0, frames, self.alignment, self.vae.config.time_stride - 1)
            if alone
            else batch.video.shape[1] - frames
        )
        return PreparedBatch(
            arrays={
                "target": target,
                "motion": motion,
                "reference": reference,
                "audio": np.stack([clip_audio(rows, start, frames) for rows in np.asarray(sound)]),
                "text": text,
                "face": batch.face,
                "body": batch.body,
            },
            ids=np.asarray(batch.id, np.uint32),
            names=tuple(batch.name),
            weights=np.asarray(batch.weight, np.float32),
        )

    def _latents(self, video: UInt8[np.ndarray, "B T H W 3"]) -> Float[Array, "B F h w C"]:
        return encode_latents(self.vae, video).astype(self.dtype)
