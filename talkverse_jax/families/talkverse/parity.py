"""How TalkVerse runs the cases of reference bundles (see pipeline/cases.py)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.alignment import clip_audio
from talkverse_jax.families.talkverse.bundles import MODELS, dit_config
from talkverse_jax.families.talkverse.clips import ClipMaker, Dubbing, Subject
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.families.talkverse.taps import as_the_original
from talkverse_jax.families.talkverse.training_parity import train_loss_case
from talkverse_jax.media.fit import bring, to_unit
from talkverse_jax.models.wan.taps import Taps
from talkverse_jax.pipeline.cases import (
    ParityCase,
    RunCase,
    channels_last,
    channels_second,
    scheduler_case,
    umt5_case,
    vae_case,
    vae_config,
    wav2vec2_case,
)
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle


def dit_case(bundle: Bundle, mesh: MeshConfig | None) -> ParityCase:
    """One prediction of the velocity."""
    inputs = bundle.group("inputs")
    channels, audio_layers = inputs["latents"].shape[1], inputs["audio"].shape[1]
    config = dit_config(bundle.config, bundle.meta["motion_frames"][0], channels, audio_layers)
    model = MODELS.load(bundle, "dit", config, MODELS.layouts(mesh, config.trunk.num_heads))

    order: list[str] = []  # of computation; a dict that passes through jit comes back sorted

    @jax.jit
    def call(model, text, audio, reference, motion, latents, timestep):
        taps = Taps()
        conditions = model.prepare(text, audio, reference, motion, taps)
        velocity = model.velocity(latents, timestep, conditions, taps)
        order.extend(taps.values)
        return velocity, taps.values

    velocity, taps = call(
        model,
        inputs["context"],
        np.transpose(inputs["audio"], (0, 3, 1, 2)),
        channels_last(inputs["ref_latents"]),
        None if bundle.meta["drop_motion_frames"] else channels_last(inputs["motion_latents"]),
        channels_last(inputs["latents"]),
        inputs["timestep"],
    )
    kept = {name: np.asarray(taps[name]) for name in order}
    grid = tuple(n // p for n, p in zip(inputs["latents"].shape[2:], config.trunk.patch_size))
    named = as_the_original(kept, config, grid, len(inputs["latents"]))
    return ParityCase({"velocity": channels_second(velocity)}, named)


def pipeline_case(bundle: Bundle, mesh: MeshConfig | None) -> ParityCase:
    """Clips one after the other, from a picture or a video to dub, sound features, text states and noise.

    Raises:
      UserError: the bundle was made with a setting that only the original has.
    """
    inputs, config = bundle.group("inputs"), bundle.config
    if not config["drop_first_motion"] and "init_first_frame" not in config:
        raise UserError(f"{bundle.path}: a first clip with motion tokens of zeros is not part of this program")
    sizes = inputs["noise"].shape[1], inputs["audio_features"].shape[0]
    transformer = dit_config(config["dit"], config["motion_frames"], *sizes)
    layouts = MODELS.layouts(mesh, transformer.trunk.num_heads)
    dit = MODELS.load(bundle, "dit", transformer, layouts, "dit")
    vae = MODELS.load(bundle, "vae", vae_config(MODELS, config["vae"], {}), layouts, "vae")
    settings = Settings(
        prompt="",
        infer_frames=config["infer_frames"],
        sample_steps=config["steps"],
        sample_shift=config["shift"],
        sample_guide_scale=config["guide_scale"],
        sample_solver=config["solver"],
        init_first_frame=config.get("init_first_frame", False),
        audio_alignment="upstream",
        dubbing_noise_strength=config.get("dubbing_noise_strength", 1.0),
    )
    subject = _subject(config, inputs, dit.config.trunk.text_len)
    video, taps = [], {}
    for clip in ClipMaker(dit, vae).clips(subject, settings):
        video.append(clip.frames)
        taps[f"latents_clip_{clip.index}"] = np.moveaxis(clip.latents, -1, 0)
    return ParityCase({"video": np.moveaxis(np.concatenate(video), -1, 0)}, taps, chained=True)


def _subject(config: Mapping[str, Any], inputs: Mapping[str, np.ndarray], text_len: int) -> Subject:
    """What the clips of a bundle are made of."""

    def brought(image: np.ndarray) -> np.ndarray:
        return to_unit(bring(image, (config["height"], config["width"]), "pad"))

    def text(name: str) -> Any:
        return np.pad(inputs[name], ((0, 0), (0, text_len), (0, 0)))[:, :text_len]

    def frames(first: int, count: int) -> np.ndarray:
        wanted = np.clip(np.arange(first, first + count), 0, len(inputs["source_video"]) - 1)
        return np.stack([brought(inputs["source_video"][number]) for number in wanted])

    dubbing = None
    if "source_video" in inputs:
        chosen = config["reference_frame_in_segment"]
        dubbing = Dubbing(frames, lambda clip, count: chosen[clip])
    return Subject(
        image=frames(0, 1)[0] if dubbing else brought(inputs["image"]),
        text=text("context"),
        negative_text=text("negative_context"),
        audio=partial(clip_audio, np.transpose(inputs["audio_features"], (1, 0, 2))),
        num_clips=config["num_clips"],
        noise=lambda clip, shape: channels_last(inputs["noise"][clip][None]),
        dubbing=dubbing,
    )


PARITY_CASES: dict[str, RunCase] = {
    "dit": dit_case,
    "vae": partial(vae_case, MODELS),
    "umt5_encoder": partial(umt5_case, MODELS),
    "wav2vec2": partial(wav2vec2_case, MODELS),
    "scheduler": scheduler_case,
    "pipeline": pipeline_case,
    "train_loss": train_loss_case,
}
