"""Windows of video to prepared samples, by the three frozen models.

Shapes: B windows of T frames, of which F latent frames are to be learnt; H W pixels, h w latent grid,
C latent channels, A audio width.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from talkverse_jax.data.prepared import PreparedBatch
from talkverse_jax.data.raw import RawSample
from talkverse_jax.families.talkverse.alignment import clip_audio, first_row
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.settings import AudioAlignment, WindowSettings
from talkverse_jax.media.fit import to_unit
from talkverse_jax.models.vae.layers import PICTURES
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.residency import host_device
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import split_for
from talkverse_jax.weights import store

_CAPTIONS = 64  # kept encoded: 4 MB each at most


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
        self.vae, self.audio, self.text = vae, audio, text
        self.text_len, self.motion_latents = text_len, motion_latents
        self.alignment: AudioAlignment = alignment
        self.dtype = jnp.dtype(dtype)
        self._text_on_cpu = text_on_cpu
        self._precision = "highest" if self.dtype == jnp.float32 else "high"  # of float32, on accelerators
        self._captions: OrderedDict[str, Float[np.ndarray, "tokens D"]] = OrderedDict()
        self._null_text = self._text([""])[0]

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
        layouts = component_layouts(_local_mesh(), COMPONENTS.values())
        config = store.load_config(weights_dir, COMPONENTS["dit"])

        def load(name: str, dtype: str, layout: Layout) -> Any:
            return store.load_module(weights_dir, COMPONENTS[name], dtype=dtype, layout=layout)

        with _on_cpu(text_on_cpu):
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
        with jax.default_matmul_precision(self._precision):
            window, reference = self._latents(batch.video), self._latents(batch.reference[:, None])
            sound = self.audio.encode_windows(batch.waveform).astype(self.dtype)
        text = self._text(batch.caption)
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
        stride = self.vae.config.space_stride
        split = split_for(self.vae.layout, len(video), video.shape[2] // stride, video.shape[3] // stride)
        return _encode_pictures(self.vae, split.put(video, *PICTURES)).astype(self.dtype)

    def _text(self, captions: Sequence[str]) -> Float[np.ndarray, "B text_len D"]:
        """Zero behind each caption's end; what is longer is cut."""
        states = np.zeros((len(captions), self.text_len, self.text.model.config.dim), self.dtype)
        for row, caption in zip(states, captions):
            if caption not in self._captions:
                with _on_cpu(self._text_on_cpu), jax.default_matmul_precision(self._precision):
                    encoded = self.text.encode([caption], self.text_len)
                kept = np.asarray(encoded.states)[0, : encoded.lengths[0]]
                self._captions[caption] = kept.astype(self.dtype)
            self._captions.move_to_end(caption)
            if len(self._captions) > _CAPTIONS:
                self._captions.popitem(last=False)
            kept = self._captions[caption]
            row[: len(kept)] = kept
        return states


@jax.jit
def _encode_pictures(vae: WanVAE, video: UInt8[Array, "B T H W 3"]) -> Float[Array, "B F h w C"]:
    return vae.encode(to_unit(video))


def _local_mesh() -> Mesh | None:
    """Over the accelerators of this process; of CPU devices the first is taken."""
    devices = jax.local_devices()
    if len(devices) == 1 or devices[0].platform == "cpu":
        return None
    return make_mesh(MeshConfig(data=-1), devices, heads=1)


def _on_cpu(wanted: bool):
    return jax.default_device(host_device()) if wanted else nullcontext()
