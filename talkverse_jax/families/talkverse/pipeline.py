"""TalkVerse's pipeline: UMT5 and wav2vec2 first, then clip after clip by the transformer and the VAE."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from talkverse_jax.families.talkverse.alignment import FeatureRows, clip_audio
from talkverse_jax.families.talkverse.clips import ClipMaker, Subject, VideoState, seeded_key, seeded_noise
from talkverse_jax.families.talkverse.components import COMPONENTS, dtypes
from talkverse_jax.families.talkverse.inputs import TalkVerseInputs, read, read_live
from talkverse_jax.families.talkverse.programs import calls, coming
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.families.talkverse.timeline import live_timeline, timeline_of
from talkverse_jax.media.fit import to_unit
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.ahead import made_ready
from talkverse_jax.pipeline.clip import Clip, Timeline
from talkverse_jax.pipeline.common_options import about_clips
from talkverse_jax.pipeline.decoders import COMPONENTS as DECODERS
from talkverse_jax.pipeline.decoders import check_decoder
from talkverse_jax.pipeline.encoders import AudioEncoder
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.live_features import WINDOW, LiveFeatures, Unending
from talkverse_jax.pipeline.long_sound import sound_features
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.models import Models
from talkverse_jax.pipeline.pipeline import Pipeline, Saved
from talkverse_jax.pipeline.prompts import encode_prompts


@dataclasses.dataclass(frozen=True)
class TalkVerseEncoded:
    """A job whose text and sound are as the transformer takes them."""

    job: Job
    inputs: TalkVerseInputs
    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    audio: FeatureRows
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
            seeded_key(self.job.seed),
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
        self.configs = registry.find(self.family).configs_from_weights(weights.weights)
        trunk = self.configs.dit.trunk
        self.models = Models(
            COMPONENTS,
            weights,
            machine,
            dtypes=dtypes(machine),
            denoiser="dit",
            heads=trunk.num_heads,
            head_dim=trunk.head_dim,
            rows=(2 if settings is None else settings.fewest_branches) * pack,
            mesh=mesh,
        )
        self._keep_encoders = keep_encoders

    def encode(self, job: Job, events: Events, inputs: TalkVerseInputs | None = None) -> TalkVerseEncoded:
        inputs = inputs or read(job)
        settings, track = job.settings, inputs.track

        def hear(encoder: AudioEncoder) -> FeatureRows:
            return sound_features(encoder, track, settings.audio_window)

        encoded = self._encode(job, events, inputs, timeline_of(job, inputs), hear)
        return dataclasses.replace(encoded, notices=(*encoded.notices, *about_clips(settings, encoded.timeline.clips)))

    def listen(self, job: Job, sound: Unending, events: Events) -> TalkVerseEncoded:
        window = max(WINDOW, 2 * job.settings.infer_frames / FPS)
        return self._encode(
            job, events, read_live(job), live_timeline(job), lambda encoder: LiveFeatures(encoder, sound, window)
        )

    def _encode(
        self,
        job: Job,
        events: Events,
        inputs: TalkVerseInputs,
        timeline: Timeline,
        hear: Callable[[AudioEncoder], FeatureRows],
    ) -> TalkVerseEncoded:
        settings: Settings = job.settings
        rows, one = (
            settings.fewest_branches * self.pack,
            "sample_guide_every" if settings.guided else "sample_guide_scale",
        )
        self.models.check_rows(rows, one, getattr(settings, one))
        check_decoder(settings.decoder, self.configs.tiny_decoder, self.weights.weights)
        with self.models.precision:
            prompts = {"prompt": settings.prompt}
            prompts["negative_prompt"] = settings.negative_prompt if settings.guided else ""  # is not used
            (text, negative_text), notices = encode_prompts(
                self.models, prompts, self.configs.dit.trunk.text_len, events
            )
            self._drop("text")
            with events.phase("loading"):
                audio_encoder = AudioEncoder(self.models["audio"])
            with events.phase("encoding"):
                audio = hear(audio_encoder)
            del audio_encoder
        self._drop("audio")
        return TalkVerseEncoded(job, inputs, text, negative_text, audio, timeline, tuple(notices))

    def timeline(self, encoded: TalkVerseEncoded) -> Timeline:
        return encoded.timeline

    def start(self, encoded: TalkVerseEncoded, events: Events) -> VideoState:
        with self.models.precision:
            self._load(encoded, 0, events)
            return self._clip_maker(events).start(encoded.subject(), encoded.job.settings, events)

    def stage(self, state: VideoState) -> bool:
        return state.motion is None  # then there are no tokens of it

    def advance(
        self, states: list[VideoState | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, VideoState]]:
        return self.models.precise(self._clip_maker(Events()).advance(states, events))

    def save(self, state: VideoState) -> Saved | None:
        return self._clip_maker(Events()).save(state)

    def restore(self, encoded: TalkVerseEncoded, clip: int, saved: Saved, events: Events) -> VideoState:
        with self.models.precision:
            self._load(encoded, clip, events)
            maker = self._clip_maker(events)
            return maker.restore(encoded.subject(), encoded.job.settings, clip, saved, events)

    def _drop(self, encoder: str) -> None:
        if not self._keep_encoders:
            self.models.drop(encoder)

    def _load(self, encoded: TalkVerseEncoded, clip: int, events: Events) -> None:
        """Transformer and VAE, and beside them what the clips from number `clip` on run."""
        if self.models.has("dit", "vae") or self.pack > 1:  # a pack may yet turn out smaller
            return
        settings, models = encoded.job.settings, self.models
        first = clip == 0 and not settings.init_first_frame
        with events.phase("loading"):
            size, mesh = encoded.inputs.size, models.mesh
            found = calls(self.configs, settings, self.machine, size, mesh, models.products)
            with made_ready(models, coming(found, first, later=encoded.timeline.clips - clip > first)):
                self._clip_maker(Events())

    def _clip_maker(self, events: Events) -> ClipMaker:
        with events.phase("loading"):
            decoder_of = lambda name: self.models[DECODERS[name]]  # noqa: E731
            return ClipMaker(self.models["dit"], self.models["vae"], self.machine.offload_model, decoder_of)
