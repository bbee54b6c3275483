"""How each component of a reference bundle is run: inputs to our layout, our modules, outputs back.

Bundles are laid out as PyTorch has it (channels second: B C F h w); ours are channels-last.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.data.buckets import fit, to_unit
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.solvers import advance, solver_coefficients, start
from talkverse_jax.models.talkverse import torch_keys as dit_keys
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.models.talkverse.model import TalkVerse
from talkverse_jax.models.umt5 import torch_keys as umt5_keys
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.vae import torch_keys as vae_keys
from talkverse_jax.models.vae.config import WAN22_LATENT_MEAN, WAN22_LATENT_STD, VAEConfig
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wav2vec2 import torch_keys as wav2vec2_keys
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.pipelines.encoders import AudioEncoder, normalise
from talkverse_jax.pipelines.long_video import ClipSettings, generate_clips
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


def dit_config(config: dict, motion_frames: int) -> TalkVerseConfig:
    """The transformer's config from a bundle's, which leaves out what never changes."""
    trunk = {name: config[name] for name in ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len")}
    return TalkVerseConfig(
        trunk=WanConfig(
            **trunk,
            num_heads=config["num_heads"],
            num_layers=config["num_layers"],
            in_channels=48,
            out_channels=48,
            patch_size=(1, 2, 2),
            eps=1e-6,
        ),
        audio_dim=config["audio_dim"],
        audio_layers=25,
        audio_tokens=4,
        audio_inject_layers=tuple(config["audio_inject_layers"]),
        motion_frames=motion_frames,
    )


def vae_config(config: dict, mean=WAN22_LATENT_MEAN, std=WAN22_LATENT_STD) -> VAEConfig:
    constants = dict(latent_mean=tuple(map(float, mean)), latent_std=tuple(map(float, std)))
    return VAEConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}, **constants)


def _abstract(model: type[nnx.Module], config) -> nnx.Module:
    return nnx.eval_shape(lambda: model(config, rngs=nnx.Rngs(0)))


def _load_dit(bundle: Bundle, config: TalkVerseConfig, part: str | None = None) -> TalkVerse:
    weights = dict(bundle.weights(part))
    pairs = bundle.group("lora")
    if pairs:
        lora = bundle.meta["lora"]
        weights = merge_pairs(weights, pairs, rank=lora["rank"], alpha=lora["alpha"], where=str(bundle.path))
    return load_torch(_abstract(TalkVerse, config), dit_keys.RULES, weights, str(bundle.path))


def _run_dit(bundle: Bundle) -> Case:
    config = dit_config(bundle.config, bundle.meta["motion_frames"][0])
    model, inputs = _load_dit(bundle, config), bundle.group("inputs")

    order: list[str] = []  # of computation; a dict that passes through jit comes back sorted

    @jax.jit
    def call(model, text, audio, reference, motion, latents, timestep):
        taps: dict[str, jax.Array] = {}
        conditions = model.prepare(text, audio, reference, motion, taps.__setitem__)
        velocity = model.velocity(latents, timestep, conditions, taps.__setitem__)
        order.extend(taps)
        return velocity, taps

    velocity, taps = call(
        model,
        inputs["context"],
        np.transpose(inputs["audio"], (0, 3, 1, 2)),
        channels_last(inputs["ref_latents"]),
        None if bundle.meta["drop_motion_frames"] else channels_last(inputs["motion_latents"]),
        channels_last(inputs["latents"]),
        inputs["timestep"],
    )
    return Case({"velocity": channels_second(velocity)}, {k: np.asarray(taps[k]) for k in order})


def _run_vae(bundle: Bundle) -> Case:
    inputs, taps = bundle.group("inputs"), bundle.group("taps")
    config = vae_config(bundle.config, *((taps["mean"], taps["std"]) if "mean" in taps else ()))
    vae = load_torch(_abstract(WanVAE22, config), vae_keys.RULES, bundle.weights(), str(bundle.path))
    encoded = jax.jit(type(vae).encode)(vae, channels_last(inputs["video"]))
    decoded = jax.jit(type(vae).decode)(vae, channels_last(inputs["latents"]))
    return Case({"encoded": channels_second(encoded), "decoded": channels_second(decoded)}, {})


def _run_umt5(bundle: Bundle) -> Case:
    where = str(bundle.path)
    model = _abstract(UMT5Encoder, UMT5Config.from_upstream(bundle.config, where))
    inputs = bundle.group("inputs")
    hidden = load_torch(model, umt5_keys.RULES, bundle.weights(), where)(inputs["ids"], inputs["mask"])
    return Case({"hidden": np.asarray(hidden)}, {})


def _run_wav2vec2(bundle: Bundle) -> Case:
    where = str(bundle.path)
    model = _abstract(Wav2Vec2, Wav2Vec2Config.from_huggingface(bundle.config, where))
    model = load_torch(model, wav2vec2_keys.RULES, bundle.weights(), where, wav2vec2_keys.IGNORED)
    waveform = bundle.group("inputs")["waveform"][0]
    normalized = normalise(waveform)[None]
    outputs = {
        "hidden_states": np.moveaxis(np.asarray(model(normalized)[0]), 1, 0),
        "hidden_states_25fps": np.moveaxis(AudioEncoder(model).encode(waveform), 1, 0),
    }
    return Case(outputs, {"normalized": normalized})


def _run_scheduler(bundle: Bundle) -> Case:
    if bundle.meta["velocity"] != _VELOCITY:
        raise UserError(f"{bundle.path}: unknown velocity field {bundle.meta['velocity']!r}; not {_VELOCITY!r}")
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


def _run_pipeline(bundle: Bundle) -> Case:
    inputs, config = bundle.group("inputs"), bundle.config
    if "source_video" in inputs:
        raise UserError(f"{bundle.path}: dubbing (inputs/source_video) is not part of this program yet")
    dit = _load_dit(bundle, dit_config(config["dit"], config["motion_frames"]), "dit")
    vae = load_torch(
        _abstract(WanVAE22, vae_config(config["vae"])), vae_keys.RULES, bundle.weights("vae"), str(bundle.path)
    )
    rows = ((0, 0), (0, dit.config.trunk.text_len), (0, 0))

    def text(name: str) -> np.ndarray:
        return np.pad(inputs[name], rows)[:, : dit.config.trunk.text_len]

    clips = generate_clips(
        dit,
        vae,
        image=to_unit(fit(inputs["image"], config["height"], config["width"])),
        text=text("context"),
        negative_text=text("negative_context"),
        audio=np.transpose(inputs["audio_features"], (1, 0, 2)),
        num_clips=config["num_clips"],
        settings=ClipSettings(
            infer_frames=config["infer_frames"],
            sample_steps=config["steps"],
            sample_shift=config["shift"],
            sample_guide_scale=config["guide_scale"],
            sample_solver=config["solver"],
            init_first_frame=not config["drop_first_motion"],
            audio_alignment="upstream",
        ),
        noise=lambda clip, shape: channels_last(inputs["noise"][clip][None]),
        stopwatch=Stopwatch("encoding", "denoising", "decoding"),
    )
    video, taps = [], {}
    for clip in clips:
        video.append(clip.frames)
        taps[f"latents_clip_{clip.index}"] = np.moveaxis(clip.latents, -1, 0)
    return Case({"video": np.moveaxis(np.concatenate(video), -1, 0)}, taps)


CASES: dict[str, Callable[[Bundle], Case]] = {
    "dit": _run_dit,
    "vae": _run_vae,
    "umt5_encoder": _run_umt5,
    "wav2vec2": _run_wav2vec2,
    "scheduler": _run_scheduler,
    "pipeline": _run_pipeline,
}
