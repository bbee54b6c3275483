"""TalkVerse's pipeline: UMT5 and wav2vec2 first, then clip after clip by the transformer and the VAE."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.alignment import clip_audio, frames_lost, make_timeline
from talkverse_jax.families.talkverse.clips import ClipMaker, Subject, VideoState, check_frames, seeded_noise
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.inputs import TalkVerseInputs, read
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.media.buckets import to_unit
from talkverse_jax.ops.attention import Attention
from talkverse_jax.pipeline.clip import Clip, Timeline
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.long_sound import WindowedFeatures, sound_features
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Pipeline, Saved
from talkverse_jax.pipeline.placement import choose_mesh, component_layouts
from talkverse_jax.pipeline.residency import host_device, to_host
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import lora, store


@dataclasses.dataclass(frozen=True)
class TalkVerseEncoded:
    """A job whose text and sound are as the transformer takes them."""

    job: Job
    inputs: TalkVerseInputs
    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    audio: Float[np.ndarray, "T layers A"] | WindowedFeatures
    timeline: Timeline
    notices: tuple[str, ...]

    def subject(self) -> Subject:
        """The video that the clips are made of."""
        return Subject(
            to_unit(self.inputs.picture),
            self.text,
            self.negative_text,
            partial(clip_audio, self.audio),
            self.timeline.clips,
            seeded_noise(self.job.seed),
            self.inputs.dubbing(self.job.seed),
        )


class TalkVersePipeline(Pipeline):
    """The models of a folder of converted weights. Each is loaded when it is first needed.

    Args:
      settings: of the jobs, which decide how devices are shared unless `machine.mesh` does.
      pack: videos that are denoised together.
      keep_encoders: for the next job; otherwise text and audio encoder are dropped as soon as a job is encoded (but
        for that of a sound that is encoded as it is needed).
      mesh: in place of the one that `machine` asks for.

    Raises:
      UserError: weights or `lora_ckpt` cannot be used, or the mesh or the attention kernel cannot be had.
    """

    family = "talkverse"

    def __init__(
        self,
        weights: Weights,
        machine: Machine,
        *,
        settings: Settings | None = None,
        pack: int = 1,
        keep_encoders: bool = False,
        mesh: "Mesh | None | str" = "asked",
    ):
        self.weights, self.machine, self.pack = weights, machine, pack
        self.configs = ModelConfigs.from_weights(weights.weights)
        if trained := self._trained_file:
            store.check_trained(weights.weights, COMPONENTS["dit"], trained)
        trunk = self.configs.dit.trunk
        if mesh == "asked":
            branches = 2 if settings is None or settings.guided else 1
            mesh = choose_mesh(machine.mesh, trunk.num_heads, branches * pack)
        self._layouts = component_layouts(mesh, COMPONENTS.values())
        Attention(self._layouts["dit"], machine.attention).check(jnp.dtype(machine.dtype), trunk.head_dim)
        self._keep_encoders = keep_encoders
        self._given: dict[str, nnx.Module] = {}

    def encode(self, job: Job, events: Events, inputs: TalkVerseInputs | None = None) -> TalkVerseEncoded:
        settings: Settings = job.settings
        check_frames(settings, self.configs.vae)
        self._check_mesh(settings)
        inputs = inputs or read(job)
        with self._precision:
            text, negative_text, notices = self._encode_prompts(settings, events)
            with events.phase("loading"):
                audio_encoder = self._audio_encoder
            with events.phase("encoding"):
                audio = sound_features(audio_encoder, inputs.track, settings.audio_window)
            del audio_encoder
        if not self._keep_encoders:
            self._drop_encoders()
        lost = frames_lost(settings, self.configs.vae.time_stride)
        timeline = make_timeline(settings, inputs.track.duration, len(audio), lost)
        if settings.num_clip and settings.num_clip > timeline.clips:
            ends = f"the sound ends in clip {timeline.clips}; {timeline.clips} are made"
            notices.append(f"num_clip {settings.num_clip}: {ends}")
        if timeline.shown < 1:
            raise UserError(
                f"{settings.head_trim_frames}: the video has {timeline.frames} frames; trim fewer",
                field="head_trim_frames",
            )
        return TalkVerseEncoded(job, inputs, text, negative_text, audio, timeline, tuple(notices))

    def timeline(self, encoded: TalkVerseEncoded) -> Timeline:
        return encoded.timeline

    def start(self, encoded: TalkVerseEncoded, events: Events) -> VideoState:
        with self._precision:
            return self._clip_maker(events).start(encoded.subject(), encoded.job.settings, events)

    def advance(
        self, states: list[VideoState | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, VideoState]]:
        clips = self._clip_maker(Events()).advance(states, events)
        while True:
            with self._precision:
                if (made := next(clips, None)) is None:
                    return
            yield made

    def save(self, state: VideoState) -> Saved | None:
        return self._clip_maker(Events()).save(state)

    def restore(self, encoded: TalkVerseEncoded, clip: int, saved: Saved, events: Events) -> VideoState:
        with self._precision:
            maker = self._clip_maker(events)
            return maker.restore(encoded.subject(), encoded.job.settings, clip, saved, events)

    def replace(self, **modules: nnx.Module) -> None:
        self._given |= modules
        self.__dict__.pop("_maker", None)

    def describe(self) -> dict[str, Any]:
        mesh = self._layouts["dit"].mesh
        devices = mesh.devices.flat if mesh else jax.local_devices()[:1]
        return {"devices": [d.device_kind for d in devices], "mesh": dict(mesh.shape) if mesh else None}

    @property
    def _precision(self):
        """Of float32 products, for the length of a block, in the thread that asks."""
        return jax.default_matmul_precision(self.machine.matmul_precision)

    @property
    def _trained_file(self) -> lora.TrainedFile | None:
        given = self.weights
        if given.lora_ckpt is None:
            return None
        return lora.TrainedFile(given.lora_ckpt, given.lora_rank, given.lora_alpha)

    def _check_mesh(self, settings: Settings) -> None:
        rows, mesh = (2 if settings.guided else 1) * self.pack, self._layouts["dit"].mesh
        if mesh and rows % mesh.shape["data"]:
            raise UserError(
                f"{settings.sample_guide_scale}: makes {rows} to split over data={mesh.shape['data']}; give a mesh "
                f"with data={rows} at most",
                field="sample_guide_scale",
            )

    def _encode_prompts(self, settings: Settings, events: Events) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """The states of both prompts, and lines for the user."""
        prompts = {"prompt": settings.prompt}
        prompts["negative_prompt"] = settings.negative_prompt if settings.guided else ""  # is not used
        with events.phase("loading"):
            encoder = self._text_encoder
        with events.phase("encoding"), self._text_device:
            encoded = encoder.encode(list(prompts.values()), self.configs.dit.trunk.text_len)
            text = np.asarray(encoded.states)
        notices = [
            f"{name}: {tokens} tokens, cut to {kept}"
            for name, tokens, kept in zip(prompts, encoded.tokens, encoded.lengths)
            if tokens > kept
        ]
        del encoder
        if not self._keep_encoders:
            self._drop_encoders()
        return text[:1], text[1:], notices

    def _drop_encoders(self) -> None:
        for name in ("_text_encoder", "_audio_encoder"):
            self.__dict__.pop(name, None)

    @property
    def _text_device(self):
        return jax.default_device(host_device()) if self.machine.t5_cpu else nullcontext()

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        folder, layout = self.weights.weights, Layout() if self.machine.t5_cpu else self._layouts["text"]
        with self._text_device:
            model = store.load_module(folder, COMPONENTS["text"], dtype=self.machine.dtype, layout=layout)
            return TextEncoder(model, load_tokenizer(store.folder_of(folder, "text") / "tokenizer"))

    @cached_property
    def _audio_encoder(self) -> AudioEncoder:
        layout = self._layouts["audio"]
        model = store.load_module(self.weights.weights, COMPONENTS["audio"], dtype="float32", layout=layout)
        return AudioEncoder(model)

    def _clip_maker(self, events: Events) -> ClipMaker:
        with events.phase("loading"):
            return self._maker

    @cached_property
    def _maker(self) -> ClipMaker:
        """The transformer, with the trained file laid over it, and the VAE."""
        return ClipMaker(self._load_dit(), self._load_vae(), self.machine.offload_model)

    def _load_dit(self) -> Any:
        if "dit" in self._given:
            return self._given["dit"]
        dit = store.load_module(
            self.weights.weights,
            COMPONENTS["dit"],
            dtype=self.machine.dtype,
            layout=self._layouts["dit"],
            trained=self._trained_file,
            kernel=self.machine.attention,
        )
        return to_host(dit) if self.machine.offload_model else dit

    def _load_vae(self) -> Any:
        if "vae" not in self._given:
            self._given["vae"] = store.load_module(
                self.weights.weights, COMPONENTS["vae"], dtype=self.machine.vae_dtype, layout=self._layouts["vae"]
            )
        return self._given["vae"]
