"""How MultiTalk runs the cases of reference bundles (see pipeline/cases.py)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.bundles import MODELS, dit_config
from talkverse_jax.families.multitalk.clips import Cast, MultiTalkClips, Noise
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.masks import Cells, read_masks
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.families.multitalk.timeline import Overlapping, heard, upstream_timeline
from talkverse_jax.media.fit import bring, framing, to_unit
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.wan.taps import Taps
from talkverse_jax.pipeline.cases import (
    Arrays,
    ParityCase,
    RunCase,
    channels_last,
    channels_second,
    clip_vision_case,
    umt5_case,
    vae_case,
    vae_config,
    wav2vec2_base_case,
)
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle


def dit_case(bundle: Bundle, mesh: MeshConfig | None) -> ParityCase:
    """One prediction of the velocity."""
    inputs, config = bundle.group("inputs"), dit_config(bundle.config)
    model = MODELS.load(bundle, "dit", config, MODELS.layouts(mesh, config.trunk.num_heads))
    order: list[str] = []  # of computation; a dict that passes through jit comes back sorted

    @jax.jit
    def call(model, text, image, known, sound, speakers, latents, timestep):
        taps = Taps()
        conditions = model.prepare(text, image, known, sound, speakers, None, taps)
        velocity = model.velocity(latents, timestep, conditions, taps)
        order.extend(taps.values)
        return velocity, taps.values

    velocity, taps = call(
        model,
        inputs["context"],
        inputs["clip_features"],
        channels_last(inputs["conditioning"]),
        windows_of(inputs["audio"], config),
        inputs["masks"][None],
        channels_last(inputs["latents"]),
        inputs["timestep"],
    )
    people = len(inputs["audio"])
    named = {name.replace("blocks/", "block_"): np.asarray(taps[name]) for name in order}
    tokens = named["audio_tokens"][0]  # F (people tokens) E
    named["audio_tokens"] = np.stack(np.split(tokens, people, axis=1))
    count = int(np.prod([n // p for n, p in zip(inputs["latents"].shape[2:], config.trunk.patch_size)]))
    named |= {name: value[:, :count] for name, value in named.items() if name.startswith("block_")}
    return ParityCase({"velocity": channels_second(velocity)}, named)


def windows_of(frames: np.ndarray, config: MultiTalkConfig) -> AudioWindows:
    """What latent frames hear, of windows around each frame.

    Args:
      frames: [people, n, window, layers, A].
    """
    stride, middle = config.time_stride, config.audio_window // 2
    parts = [frames[:, 1::stride, : middle + 1]]
    parts += [frames[:, number::stride, middle : middle + 1] for number in range(2, stride)]
    parts += [frames[:, stride::stride, middle:]]
    return AudioWindows(frames[None, :, 0], np.concatenate(parts, axis=2)[None])


def pipeline_case(bundle: Bundle, mesh: MeshConfig | None, recipe: Recipe) -> ParityCase:
    """Clips one after the other, from a picture or a video, sound features, text states and noise."""
    inputs, config = bundle.group("inputs"), bundle.config
    transformer = dit_config(config["dit"], recipe)
    layouts = MODELS.layouts(mesh, transformer.trunk.num_heads)
    autoencoder = vae_config(MODELS, config["vae"], {})
    maker = MultiTalkClips(
        MODELS.load(bundle, "dit", transformer, layouts, "dit"),
        MODELS.load(bundle, "vae", autoencoder, layouts, "vae"),
        MODELS.load(bundle, "clip", ClipVisionConfig.from_upstream(config["clip"], str(bundle.path)), layouts, "clip"),
    )
    settings = _settings(config)
    sounds = [inputs[f"audio_person_{person}"] for person in range(1, 1 + config["people"])]
    timeline = upstream_timeline(
        len(sounds[-1] if recipe == "infinitetalk" else sounds[0]),
        config["frame_num"],
        config["motion_frames"],
        most=config["max_frames"],
        one_clip=config["max_frames"] <= config["frame_num"],
        recipe=recipe,
    )
    cells = Cells.of(transformer, autoencoder)
    subject = _subject(inputs, config, transformer, cells, timeline, sounds)
    video, taps = [], {}
    for clip in maker.clips(subject, settings):
        assert clip.frames is not None, "bundles are run by one process"
        video.append(clip.frames[timeline.shown_of(clip.index)])
        taps[f"latents_clip_{clip.index}"] = np.moveaxis(clip.latents, -1, 0)
    return ParityCase({"video": np.moveaxis(np.concatenate(video), -1, 0)}, taps, chained=True)


def _settings(config: Mapping[str, Any]) -> Settings:
    apg, cache = config["apg"], config["teacache"]
    return Settings(
        prompt="",
        frame_num=config["frame_num"],
        motion_frame=config["motion_frames"],
        sample_steps=config["steps"],
        sample_shift=config["shift"],
        sample_text_guide_scale=config["text_guide_scale"],
        sample_audio_guide_scale=config["audio_guide_scale"],
        color_correction_strength=config.get("color_correction_strength", 0.0),
        **(
            {"use_apg": True, "apg_momentum": apg["momentum"], "apg_norm_threshold": apg["norm_threshold"]}
            if apg
            else {}
        ),
        **(
            {"use_teacache": True, "teacache_thresh": cache["threshold"], "size_bucket": cache["size"]} if cache else {}
        ),
    )


def _subject(
    inputs: Arrays,
    config: Mapping[str, Any],
    transformer: MultiTalkConfig,
    cells: Cells,
    timeline: Overlapping,
    sounds: list[Any],
) -> Cast:
    """What the clips of a bundle are made of."""
    size = config["height"], config["width"]
    pictures = inputs["source_video"] if "source_video" in inputs else inputs["image"][None]
    text_len = transformer.trunk.text_len

    def text(name: str) -> np.ndarray:
        return np.pad(inputs[name], ((0, 0), (0, text_len), (0, 0)))[:, :text_len]

    def sound(clip: int) -> AudioWindows:
        sizes = dict(window=transformer.audio_window, stride=transformer.time_stride)
        rows = [heard(timeline.starts[clip], timeline.length, len(each), **sizes) for each in sounds]
        parts = zip(*[(each[first], each[later]) for each, (first, later) in zip(sounds, rows)])
        return AudioWindows(*map(np.stack, parts))

    def noise(clip: int, shape: tuple[int, ...]) -> Noise:
        drawn = config["steps"] + 1
        known = None
        if clip and "motion_noise" in inputs:
            given = np.moveaxis(inputs["motion_noise"][drawn * (clip - 1) : drawn * clip], 1, -1)
            known = np.pad(given, ((0, 0), (0, shape[0] - given.shape[1]), *[(0, 0)] * 3))
        return Noise(
            np.moveaxis(inputs["noise"][clip], 0, -1), np.asarray(jax.random.key_data(jax.random.key(0))), known
        )

    def picture(number: int) -> np.ndarray:
        return to_unit(bring(pictures[min(number, len(pictures) - 1)], size, "fill"))

    boxes = [",".join(map(str, box)) for box in config.get("bbox", {}).values()]
    masks = read_masks(len(sounds), boxes, (), framing(pictures.shape[1:3], size, "fill"), cells)
    infinite = transformer.recipe == "infinitetalk"
    return Cast(
        picture=lambda clip: picture(0),
        text=text("context"),
        negative_text=text("negative_context"),
        sound=sound,
        speakers=masks.astype(np.float32) if len(sounds) > 1 else None,
        clips=timeline.clips,
        noise=noise,
        reference=(lambda clip: picture(timeline.starts[clip])) if infinite else None,
    )


PARITY_CASES: dict[str, RunCase] = {
    "multitalk_dit": dit_case,
    "vae21": partial(vae_case, MODELS),
    "umt5_encoder": partial(umt5_case, MODELS),
    "wav2vec2_base": partial(wav2vec2_base_case, MODELS),
    "clip_vision": partial(clip_vision_case, MODELS),
    "multitalk_pipeline": partial(pipeline_case, recipe="multitalk"),
    "infinitetalk_pipeline": partial(pipeline_case, recipe="infinitetalk"),
}
