"""Windows of video to what a training step is given, by the three frozen models.

Shapes: B windows of T frames, of which 4F are to be learnt; H W pixels, h w latent grid, C latent channels,
A audio width.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.raw import RawSample
from talkverse_jax.data.shards import PreparedSample
from talkverse_jax.families.talkverse.alignment import AudioAlignment, clip_audio, first_row
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.media.buckets import to_unit
from talkverse_jax.models.vae.layers import PICTURES
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.residency import host_device
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import split_for
from talkverse_jax.training.batch import TrainingBatch
from talkverse_jax.weights import manifest, store

_CAPTIONS = 64  # kept encoded: 4 MB each at most


class SampleEncoder:
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
        self.alignment, self.dtype = alignment, jnp.dtype(dtype)
        self._text_on_cpu = text_on_cpu
        self._precision = "highest" if self.dtype == jnp.float32 else "high"  # of float32, on accelerators
        self._captions: OrderedDict[str, Float[np.ndarray, "tokens D"]] = OrderedDict()
        self.null_text = self._text([""])[0]

    @classmethod
    def load(
        cls,
        weights_dir: str,
        *,
        alignment: AudioAlignment = "exact",
        dtype: str = "bfloat16",
        text_on_cpu: bool = False,
    ) -> "SampleEncoder":
        """The models of a folder of converted weights: VAE and wav2vec2 in float32, UMT5 in `dtype`.

        Raises:
          UserError: one of them is missing or damaged.
        """
        layouts = component_layouts(_local_mesh(), COMPONENTS.values())
        config = store.load_config(weights_dir, COMPONENTS["dit"])
        load = lambda name, dtype, layout: store.load_module(  # noqa: E731
            weights_dir, COMPONENTS[name], dtype=dtype, layout=layout
        )
        with _on_cpu(text_on_cpu):
            text = load("text", dtype, Layout() if text_on_cpu else layouts["text"])
        return cls(
            load("vae", "float32", layouts["vae"]),
            AudioEncoder(load("audio", "float32", layouts["audio"])),
            TextEncoder(text, load_tokenizer(store.folder_of(weights_dir, "text") / "tokenizer")),
            text_len=config.trunk.text_len,
            motion_latents=config.motion_latent_frames,
            alignment=alignment,
            dtype=dtype,
            text_on_cpu=text_on_cpu,
        )

    def encode(self, batch: RawSample) -> TrainingBatch:
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
        frames = 4 * learnt
        start = first_row(0, frames, self.alignment, False) if alone else batch.video.shape[1] - frames
        return TrainingBatch(
            target=target,
            motion=motion,
            reference=reference,
            audio=np.stack([clip_audio(rows, start, frames) for rows in np.asarray(sound)]),
            text=text,
            null_text=self.null_text,
            face=batch.face,
            body=batch.body,
            weight=np.asarray(batch.weight, np.float32),
            ids=np.asarray(batch.id, np.uint32),
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


def fingerprints(weights_dir: str) -> dict[str, str]:
    """A hash of each encoder's weights: of the files they were converted from and the dtype they are kept in.

    Raises:
      UserError: an encoder is not converted.
    """
    complete, found = manifest.read(weights_dir), {}
    for name in ("vae", "audio", "text"):
        store.folder_of(weights_dir, name)
        entry = complete[name]
        files = [entry.dtype, *sorted(source.sha256 for source in entry.sources)]
        found[name] = hashlib.sha256(" ".join(files).encode()).hexdigest()
    return found


def prepared_samples(batch: TrainingBatch, names: Sequence[str]) -> list[PreparedSample]:
    """The samples of a batch, one by one; those of weight 0 are left out."""
    columns = {name: getattr(batch, name) for name in PreparedSample._fields if name in TrainingBatch._fields}
    return [
        PreparedSample(
            **{name: column[row] for name, column in columns.items()},
            id=SampleId(*batch.ids[row].tolist()),
            name=names[row],
        )
        for row in np.flatnonzero(batch.weight)
    ]


def prepared_batch(samples: PreparedSample, null_text: Float[np.ndarray, "text_len D"]) -> TrainingBatch:
    """A batch of prepared samples as a training step takes it."""
    columns = {name: getattr(samples, name) for name in TrainingBatch._fields if name in PreparedSample._fields}
    return TrainingBatch(**columns, null_text=null_text, ids=samples.id)


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
