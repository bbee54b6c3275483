"""MultiTalk's pipeline, and InfiniteTalk's: UMT5 and wav2vec2 first, then clip after clip by the transformer, the VAE
and CLIP."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from talkverse_jax.families.multitalk.clips import Cast, MultiTalkClips, MultiTalkState, Noise, seeded_noise
from talkverse_jax.families.multitalk.components import COMPONENTS, dtypes
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.guidance import fewest_branches
from talkverse_jax.families.multitalk.inputs import MultiTalkInputs, read
from talkverse_jax.families.multitalk.programs import calls, coming
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.families.multitalk.takes import Take, make_takes, timeline_of
from talkverse_jax.families.multitalk.timeline import Joined
from talkverse_jax.media.fit import to_unit
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.ahead import made_ready
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.common_options import about_clips
from talkverse_jax.pipeline.decoders import COMPONENTS as DECODERS
from talkverse_jax.pipeline.decoders import check_decoder
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.models import Models
from talkverse_jax.pipeline.pipeline import Pipeline, Saved
from talkverse_jax.pipeline.prompts import encode_prompts
from talkverse_jax.pipeline.speech import SpeechEncoder, is_normalised


@dataclasses.dataclass(frozen=True)
class MultiTalkEncoded:
    """A job whose text and sound are as the transformer takes them."""

    job: Job
    inputs: MultiTalkInputs
    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    takes: Sequence[Take]
    timeline: Joined
    notices: tuple[str, ...]

    def cast(self, config: MultiTalkConfig) -> Cast:
        """The video that the clips are made of."""
        draw, place = seeded_noise(self.job.seed), self.timeline.place

        def noise(clip: int, shape: tuple[int, ...]) -> Noise:
            return draw(place(clip)[1], shape)  # each take has the first one's, as in the original

        def picture(clip: int) -> Float[np.ndarray, "H W 3"]:
            return to_unit(self.takes[place(clip)[0]].inputs.picture)

        def reference(clip: int) -> Float[np.ndarray, "H W 3"]:
            take, number = place(clip)
            inputs, timeline, _ = self.takes[take]
            return to_unit(inputs.reference(timeline.starts[number]))

        def begins(clip: int) -> bool:
            return place(clip)[1] == 0

        several = len(self.inputs.voices) > 1
        return Cast(
            picture=picture,
            text=self.text,
            negative_text=self.negative_text,
            sound=lambda clip: self.takes[place(clip)[0]].heard(place(clip)[1], config),
            speakers=self.inputs.masks.astype(np.float32) if several else None,
            clips=self.timeline.clips,
            noise=noise,
            reference=reference if config.recipe == "infinitetalk" else None,
            begins=begins,
        )


class MultiTalkPipeline(Pipeline):
    """The models of a folder of converted weights. Each is loaded when it is first needed.

    Args:
      settings: of the jobs, which decide how devices are shared unless `machine.mesh` does.
      pack: videos that are denoised together.
      keep_encoders: for the next job; otherwise text and audio encoder are dropped as soon as a job is encoded (but
        for that of sounds that are encoded as they are needed).
      mesh: in place of the one that `machine` asks for.

    Raises:
      UserError: weights or `lora_ckpt` cannot be used, or the mesh or the attention kernel cannot be had.
    """

    family = "multitalk"

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
            rows=(3 if settings is None else fewest_branches(settings)) * pack,
            mesh=mesh,
        )
        self._keep_encoders = keep_encoders

    def encode(self, job: Job, events: Events, inputs: MultiTalkInputs | None = None) -> MultiTalkEncoded:
        settings: Settings = job.settings
        dit = self.configs.dit
        why = "sample_guide_every" if settings.sample_guide_every > 1 else "sample_text_guide_scale"
        self.models.check_rows(fewest_branches(settings) * self.pack, why, getattr(settings, why))
        check_decoder(settings.decoder, self.configs.tiny_decoder, self.weights.weights)
        inputs = inputs or read(job)
        timeline = timeline_of(job, inputs)
        prompts = {"prompt": settings.prompt}
        prompts["negative_prompt"] = settings.negative_prompt if settings.text_guided else ""  # is not used
        with self.models.precision:
            (text, negative_text), notices = encode_prompts(self.models, prompts, dit.trunk.text_len, events)
            self._drop("text")
            with events.phase("loading"):
                encoder = SpeechEncoder(self.models["audio"], is_normalised(self.models.folder_of("audio")))
            with events.phase("encoding"):
                takes = make_takes(inputs, settings, encoder, timeline)
            del encoder
        self._drop("audio")
        notices.extend(about_clips(settings, timeline.clips))
        return MultiTalkEncoded(job, inputs, text, negative_text, takes, timeline, tuple(notices))

    def timeline(self, encoded: MultiTalkEncoded) -> Joined:
        return encoded.timeline

    def start(self, encoded: MultiTalkEncoded, events: Events) -> MultiTalkState:
        self._load(encoded, events)
        return MultiTalkState(encoded.cast(self.configs.dit), encoded.job.settings, 0, None)

    def advance(
        self, states: Sequence[MultiTalkState | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, MultiTalkState]]:
        return self.models.precise(self._clips(Events()).advance(states, events))

    def save(self, state: MultiTalkState) -> Saved | None:
        assert state.seen is not None, "before the first clip there is nothing to save"
        return {"seen": state.seen}

    def restore(self, encoded: MultiTalkEncoded, clip: int, saved: Saved, events: Events) -> MultiTalkState:
        return dataclasses.replace(self.start(encoded, events), clip=clip, seen=saved["seen"])

    def _drop(self, encoder: str) -> None:
        if not self._keep_encoders:
            self.models.drop(encoder)

    def _load(self, encoded: MultiTalkEncoded, events: Events) -> None:
        """Transformer, VAE and CLIP, and beside them what clips run."""
        models, inputs = self.models, encoded.inputs
        if models.has("dit", "vae", "clip") or self.pack > 1:  # a pack may yet turn out smaller
            return
        with events.phase("loading"):
            how = encoded.job.settings, self.machine, inputs.size, models.mesh, models.products
            found = calls(self.configs, *how, speakers=[len(inputs.voices)])
            with made_ready(models, coming(found)):
                self._clips(Events())

    def _clips(self, events: Events) -> MultiTalkClips:
        with events.phase("loading"):
            dit, vae, clip = (self.models[name] for name in ("dit", "vae", "clip"))
        decoder_of = lambda name: self.models[DECODERS[name]]  # noqa: E731
        return MultiTalkClips(dit, vae, clip, self.machine.offload_model, decoder_of)
