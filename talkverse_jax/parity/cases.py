"""How each component of a reference bundle is run: inputs to our layout, our modules, outputs back.

Bundles are laid out as PyTorch has it (channels second: B C F h w); ours are channels-last.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.solvers import advance, solver_coefficients, start
from talkverse_jax.families.talkverse.alignment import clip_audio
from talkverse_jax.families.talkverse.clips import ClipMaker, Dubbing, Subject
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.published import SOURCES
from talkverse_jax.families.talkverse.settings import Settings, Sources
from talkverse_jax.families.talkverse.taps import as_the_original
from talkverse_jax.media.buckets import fit, to_unit
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.vae.config import WAN22_LATENT_MEAN, WAN22_LATENT_STD, VAEConfig
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.taps import Taps
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.pipeline.encoders import AudioEncoder, normalise
from talkverse_jax.pipeline.placement import Layouts, component_layouts
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import lora
from talkverse_jax.weights.bundle import Bundle
from talkverse_jax.weights.match import load_torch

Arrays = dict[str, np.ndarray]

_VELOCITY = "tanh(einsum('dc,bcfhw->bdfhw', A, x)) * (0.5 + t/2000)"


@dataclasses.dataclass(frozen=True)
class Case:
    """What our code computed, under the bundle's names and in its layout."""

    outputs: Arrays
    taps: Arrays


def channels_last(x: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(x, 1, -1))


def channels_second(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 1)


def dit_config(config: dict, motion_frames: int, channels: int, audio_layers: int) -> TalkVerseConfig:
    """The transformer's config from a bundle's and its inputs; what no version changes is filled in."""
    trunk = {name: config[name] for name in ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len")}
    return TalkVerseConfig(
        trunk=WanConfig(
            **trunk,
            num_heads=config["num_heads"],
            num_layers=config["num_layers"],
            in_channels=channels,
            out_channels=channels,
            patch_size=(1, 2, 2),
            eps=1e-6,
        ),
        audio_dim=config["audio_dim"],
        audio_layers=audio_layers,
        audio_tokens=4,
        audio_inject_layers=tuple(config["audio_inject_layers"]),
        motion_frames=motion_frames,
    )


def vae_config(config: dict, mean=WAN22_LATENT_MEAN, std=WAN22_LATENT_STD) -> VAEConfig:
    constants = dict(latent_mean=tuple(map(float, mean)), latent_std=tuple(map(float, std)))
    return VAEConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}, **constants)


def layouts_on(mesh: MeshConfig | None, heads: int | None = None) -> Layouts:
    """The components' layouts on all devices.

    Args:
      heads: of the transformer; without one, any mesh fits.
    """
    devices = jax.devices()
    return component_layouts(mesh and make_mesh(mesh, devices, heads or len(devices)), COMPONENTS.values())


def load(bundle: Bundle, name: str, config, layouts: Layouts, part: str | None = None) -> nnx.Module:
    """The component with the bundle's weights in float32, where its layout puts them.

    Args:
      part: "dit" or "vae" in a bundle that holds both.

    Raises:
      UserError: a file that the bundle names is missing, or not the one it was made with.
    """
    component, where = COMPONENTS[name], str(bundle.path)
    paths = bundle.meta.get("weights")
    if paths:
        sources = Sources(*map(paths.get, ("ckpt_dir", "lora_ckpt", "wav2vec_dir")))
        published = SOURCES[name].open(component, config, sources)
        for file in published.tensor_files:
            if file.stat().st_size != paths["bytes"].get(file.name):
                raise UserError(f"{file}: not the file {bundle.path.name} was made with; make the bundle again")
        tensors, pairs = dict(published.tensors), published.pairs
        rank, alpha = paths.get("lora_rank"), paths.get("lora_alpha")
    else:
        plain, pairs = lora.split(bundle.group("lora") if name == "dit" else {}, where)
        tensors = {**bundle.weights(part), **plain}
        rank, alpha = map(bundle.meta.get("lora", {}).get, ("rank", "alpha"))
    if pairs:
        lora.check(pairs, {name: value.shape for name, value in tensors.items()}, rank, where)
        for layer, pair in pairs.items():
            merged = pair.blocks(tensors[f"{layer}.weight"].T, alpha / rank, np.dtype(np.float32))
            tensors[f"{layer}.weight"] = merged.read(slice(None)).T
    layout = layouts[name]
    module = component.abstract(config, layout=layout)
    place = layout.parameter_sharding(component.axes) if layout.mesh else None
    return load_torch(module, component.rules, tensors, where, component.ignored, place)


def _run_dit(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    inputs = bundle.group("inputs")
    channels, audio_layers = inputs["latents"].shape[1], inputs["audio"].shape[1]
    config = dit_config(bundle.config, bundle.meta["motion_frames"][0], channels, audio_layers)
    model = load(bundle, "dit", config, layouts_on(mesh, config.trunk.num_heads))

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
    return Case({"velocity": channels_second(velocity)}, as_the_original(kept, config, grid, len(inputs["latents"])))


def _run_vae(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    inputs, taps = bundle.group("inputs"), bundle.group("taps")
    config = vae_config(bundle.config, *((taps["mean"], taps["std"]) if "mean" in taps else ()))
    vae = load(bundle, "vae", config, layouts_on(mesh))
    encoded = jax.jit(type(vae).encode)(vae, channels_last(inputs["video"]))
    decoded = jax.jit(type(vae).decode)(vae, channels_last(inputs["latents"]))
    return Case({"encoded": channels_second(encoded), "decoded": channels_second(decoded)}, {})


def _run_umt5(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    config = UMT5Config.from_upstream(bundle.config, str(bundle.path))
    inputs = bundle.group("inputs")
    hidden = load(bundle, "text", config, layouts_on(mesh))(inputs["ids"], inputs["mask"])
    return Case({"hidden": np.asarray(hidden)}, {})


def _run_wav2vec2(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    config = Wav2Vec2Config.from_huggingface(bundle.config, str(bundle.path))
    model = load(bundle, "audio", config, layouts_on(mesh))
    waveform = bundle.group("inputs")["waveform"][0]
    normalized = normalise(waveform)[None]
    outputs = {
        "hidden_states": np.moveaxis(np.asarray(model(normalized)[0]), 1, 0),
        "hidden_states_25fps": np.moveaxis(AudioEncoder(model).encode(waveform), 1, 0),
    }
    return Case(outputs, {"normalized": normalized})


def _run_scheduler(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    if bundle.meta["velocity"] != _VELOCITY:
        raise UserError(f"{bundle.path}: velocity field {bundle.meta['velocity']!r}; known is {_VELOCITY!r}")
    config, inputs = bundle.config, bundle.group("inputs")
    schedule = make_schedule(config["solver"], config["steps"], config["shift"])
    state = start(inputs["latents"])
    trajectory = [np.asarray(state.sample)]
    step = jax.jit(advance)
    for timestep, row in zip(schedule.timesteps, solver_coefficients(config["solver"], schedule)):
        mixed = jnp.einsum("dc,bcfhw->bdfhw", inputs["A"], state.sample)
        state = step(state, jnp.tanh(mixed) * (0.5 + timestep / 2000), row)
        trajectory.append(np.asarray(state.sample))
    return Case(
        {"latents": trajectory[-1], "trajectory": np.stack(trajectory)},
        {"sigmas": schedule.sigmas, "timesteps": schedule.timesteps},
    )


def _run_pipeline(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    inputs, config = bundle.group("inputs"), bundle.config
    if not config["drop_first_motion"] and "init_first_frame" not in config:
        raise UserError(f"{bundle.path}: a first clip with motion tokens of zeros is not part of this program")
    sizes = inputs["noise"].shape[1], inputs["audio_features"].shape[0]
    transformer = dit_config(config["dit"], config["motion_frames"], *sizes)
    layouts = layouts_on(mesh, transformer.trunk.num_heads)
    dit = load(bundle, "dit", transformer, layouts, "dit")
    vae = load(bundle, "vae", vae_config(config["vae"]), layouts, "vae")
    rows = ((0, 0), (0, dit.config.trunk.text_len), (0, 0))

    def bring(image: np.ndarray) -> np.ndarray:
        return to_unit(fit(image, config["height"], config["width"]))

    def text(name: str) -> np.ndarray:
        return np.pad(inputs[name], rows)[:, : dit.config.trunk.text_len]

    def frames(first: int, count: int) -> np.ndarray:
        wanted = np.clip(np.arange(first, first + count), 0, len(inputs["source_video"]) - 1)
        return np.stack([bring(inputs["source_video"][number]) for number in wanted])

    dubbing = None
    if "source_video" in inputs:
        chosen = config["reference_frame_in_segment"]
        dubbing = Dubbing(frames, lambda clip, count: chosen[clip])
    subject = Subject(
        image=frames(0, 1)[0] if dubbing else bring(inputs["image"]),
        text=text("context"),
        negative_text=text("negative_context"),
        audio=partial(clip_audio, np.transpose(inputs["audio_features"], (1, 0, 2))),
        num_clips=config["num_clips"],
        noise=lambda clip, shape: channels_last(inputs["noise"][clip][None]),
        dubbing=dubbing,
    )
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
    clips = ClipMaker(dit, vae).clips(subject, settings)
    video, taps = [], {}
    for clip in clips:
        video.append(clip.frames)
        taps[f"latents_clip_{clip.index}"] = np.moveaxis(clip.latents, -1, 0)
    return Case({"video": np.moveaxis(np.concatenate(video), -1, 0)}, taps)


CASES: dict[str, Callable[[Bundle, MeshConfig | None], Case]] = {
    "dit": _run_dit,
    "vae": _run_vae,
    "umt5_encoder": _run_umt5,
    "wav2vec2": _run_wav2vec2,
    "scheduler": _run_scheduler,
    "pipeline": _run_pipeline,
}
