"""Bricks of parity: how a component of a reference bundle is run by our modules (docs/parity.md).

A case takes a bundle and gives what our code computes, under the bundle's names and in its layout: bundles are laid
out as PyTorch has it (channels second: B C F h w), our arrays are channels-last. A family lists its cases by the
bundle's component:

    parity_cases = {"vae": partial(vae_case, MODELS), "scheduler": scheduler_case, "dit": its own}

Where a component has another name than usual, it is given: `partial(vae_case, MODELS, name="pixels")`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.solvers import advance, solver_coefficients, start
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.loudness import gain, loudness
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.clip.model import pixels
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.wav2vec2.config import BASE, Wav2Vec2Config
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, AudioEncoder, normalise
from talkverse_jax.pipeline.placement import Layouts, component_layouts
from talkverse_jax.pipeline.speech import SpeechEncoder
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle
from talkverse_jax.weights.bundle_weights import bundle_weights
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.match import load_torch
from talkverse_jax.weights.published import Origin
from talkverse_jax.weights.rule import torch_tensor

Arrays = dict[str, np.ndarray]

_VELOCITY = "tanh(einsum('dc,bcfhw->bdfhw', A, x)) * (0.5 + t/2000)"


@dataclasses.dataclass(frozen=True)
class ParityCase:
    """What our code computed.

    Attributes:
      taps: values on the way, in order of computation.
      chained: whether it is many calls of models one after the other, so that roundings add up.
    """

    outputs: Arrays
    taps: Arrays = dataclasses.field(default_factory=dict)
    chained: bool = False


RunCase = Callable[[Bundle, MeshConfig | None], ParityCase]


def channels_last(x: np.ndarray) -> jax.Array:
    """B C ... -> B ... C."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def channels_second(x: Any) -> np.ndarray:
    """B ... C -> B C ..."""
    return np.moveaxis(np.asarray(x), -1, 1)


@dataclasses.dataclass(frozen=True)
class BundleModels:
    """A family's components, to be given a bundle's weights.

    Attributes:
      sources: where each is published.
      sources_type: the family's options that name published files.
    """

    components: Mapping[str, Component]
    sources: Mapping[str, Origin]
    sources_type: type

    def layouts(self, mesh: MeshConfig | None, heads: int | None = None) -> Layouts:
        """The components' layouts on all devices; on the first one where no mesh is asked for.

        Args:
          heads: of the transformer; without one, any mesh fits.
        """
        devices = jax.devices()
        return component_layouts(mesh and make_mesh(mesh, devices, heads or len(devices)), self.components.values())

    def load(self, bundle: Bundle, name: str, config: Any, layouts: Layouts, part: str | None = None) -> Any:
        """A component with the bundle's weights in float32, where its layout puts them.

        Args:
          part: the name of its recipe, in a bundle that has several.

        Raises:
          UserError: see `bundle_weights`.
        """
        component, layout = self.components[name], layouts[name]
        tensors, where = bundle_weights(bundle, component, config, self.sources[name], self.sources_type, part)
        place = layout.parameter_sharding(component.axes) if layout.mesh else None
        module = component.abstract(config, layout=layout)
        return load_torch(module, component.rules, tensors, where, component.unused(config), place)


def vae_config(
    models: BundleModels, sizes: Mapping[str, Any], taps: Mapping[str, np.ndarray], name: str = "vae"
) -> VAEConfig:
    """The VAE's config from a bundle's; what the bundle does not name is as published.

    Where encoder and decoder are published with one width, a bundle's `dim` is that of both.
    """
    published: VAEConfig = models.components[name].real_size()
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    if "dim" in found and published.dim == published.dec_dim:
        found = {"dec_dim": found["dim"], **found}
    for constant, tap in (("latent_mean", "mean"), ("latent_std", "std")):
        if tap in taps:
            found[constant] = tuple(map(float, taps[tap]))
    return dataclasses.replace(published, **found)


def vae_case(models: BundleModels, bundle: Bundle, mesh: MeshConfig | None, name: str = "vae") -> ParityCase:
    """`video` encoded, `latents` decoded."""
    inputs = bundle.group("inputs")
    config = vae_config(models, bundle.config, bundle.group("taps"), name)
    vae = models.load(bundle, name, config, models.layouts(mesh))
    encoded = jax.jit(type(vae).encode)(vae, channels_last(inputs["video"]))
    decoded = jax.jit(type(vae).decode)(vae, channels_last(inputs["latents"]))
    return ParityCase({"encoded": channels_second(encoded), "decoded": channels_second(decoded)})


def umt5_case(models: BundleModels, bundle: Bundle, mesh: MeshConfig | None, name: str = "text") -> ParityCase:
    """`ids` and `mask` to hidden states."""
    config, inputs = UMT5Config.from_upstream(bundle.config, str(bundle.path)), bundle.group("inputs")
    hidden = models.load(bundle, name, config, models.layouts(mesh))(inputs["ids"], inputs["mask"])
    return ParityCase({"hidden": np.asarray(hidden)})


def clip_vision_case(models: BundleModels, bundle: Bundle, mesh: MeshConfig | None, name: str = "clip") -> ParityCase:
    """`image`, one frame, to the tokens before the last block."""
    config = ClipVisionConfig.from_upstream(bundle.config, str(bundle.path))
    picture = channels_last(bundle.group("inputs")["image"][:, :, 0])
    tokens = models.load(bundle, name, config, models.layouts(mesh))(picture)
    return ParityCase({"tokens": np.asarray(tokens)}, {"pixels": channels_second(pixels(picture, config))})


def wav2vec2_case(models: BundleModels, bundle: Bundle, mesh: MeshConfig | None, name: str = "audio") -> ParityCase:
    """`waveform` to hidden states, all of them and those at 25 frames a second."""
    config = Wav2Vec2Config.from_huggingface(bundle.config, str(bundle.path))
    model = models.load(bundle, name, config, models.layouts(mesh))
    waveform = bundle.group("inputs")["waveform"][0]
    normalized = normalise(waveform)[None]
    outputs = {
        "hidden_states": np.moveaxis(np.asarray(model(normalized)[0]), 1, 0),
        "hidden_states_25fps": np.moveaxis(AudioEncoder(model).encode(waveform), 1, 0),
    }
    return ParityCase(outputs, {"normalized": normalized})


def wav2vec2_base_case(
    models: BundleModels, bundle: Bundle, mesh: MeshConfig | None, name: str = "audio"
) -> ParityCase:
    """`sound` made as loud as `loudness_out` says, to the outputs of all layers at 25 frames a second.

    Raises:
      UserError: another rate is wanted.
    """
    if (rate := bundle.meta["frames_per_second"]) != FPS:
        raise UserError(f"{bundle.path}: {rate} frames a second; known is {FPS}")
    config = Wav2Vec2Config.from_huggingface(bundle.config, str(bundle.path), BASE)
    model = models.load(bundle, name, config, models.layouts(mesh))
    sound = bundle.group("inputs")["sound"]
    louder = gain(loudness([sound], SAMPLE_RATE, str(bundle.path)), bundle.meta["loudness_out"])
    waveform = (sound * louder).astype(np.float32)
    measured = SpeechEncoder(model).measure(lambda: [waveform])
    features = jax.jit(type(model).features)(model, waveform[None], measured.moments)
    outputs = {"embeddings": SpeechEncoder(model).encode(waveform)}
    return ParityCase(outputs, {"waveform": waveform, "conv_features": channels_second(features)[0]})


def scheduler_case(bundle: Bundle, mesh: MeshConfig | None) -> ParityCase:
    """A solver's walk along a velocity field that the bundle spells out.

    Raises:
      UserError: it is another field.
    """
    if bundle.meta["velocity"] != _VELOCITY:
        raise UserError(f"{bundle.path}: velocity field {bundle.meta['velocity']!r}; known is {_VELOCITY!r}")
    config, inputs = bundle.config, bundle.group("inputs")
    schedule = make_schedule(config["solver"], config["steps"], config["shift"])
    state = start(jnp.asarray(inputs["latents"]))
    trajectory = [np.asarray(state.sample)]
    step = jax.jit(advance)
    for timestep, row in zip(schedule.timesteps, solver_coefficients(config["solver"], schedule)):
        mixed = jnp.einsum("dc,bcfhw->bdfhw", inputs["A"], state.sample)
        state = step(state, jnp.tanh(mixed) * (0.5 + timestep / 2000), row)
        trajectory.append(np.asarray(state.sample))
    return ParityCase(
        {"latents": trajectory[-1], "trajectory": np.stack(trajectory)},
        {"sigmas": schedule.sigmas, "timesteps": schedule.timesteps},
    )


def loss_and_gradients(component: Component, model: nnx.Module, loss: Callable[[Any], jax.Array]) -> Arrays:
    """`loss`; `grad/NAME`, its gradient for every tensor by PyTorch name and layout; `grad_norms`, sorted by name."""
    graphdef, params, frozen, _ = tree.divide(model, lambda _: True)
    value, gradients = jax.jit(jax.value_and_grad(lambda params: loss(tree.join(graphdef, params, frozen))))(params)
    flat = tree.parameters(tree.join(graphdef, gradients, frozen))
    by_name = dict(torch_tensor(component.rules, path, np.asarray(gradient)) for path, gradient in flat.items())
    norms = np.array([np.linalg.norm(by_name[name].ravel()) for name in sorted(by_name)])
    named = {f"grad/{name}": gradient for name, gradient in by_name.items()}
    return {"loss": np.asarray(value), **named, "grad_norms": norms}
