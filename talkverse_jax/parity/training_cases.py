"""How a bundle of the original's training loss is run: pixels and sound features to loss and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.diffusion import loss as flow
from talkverse_jax.families.talkverse.keys import RULES
from talkverse_jax.families.talkverse.training import Dropouts, TrainingBatch, batch_losses
from talkverse_jax.parity.cases import (
    Case,
    channels_last,
    channels_second,
    dit_config,
    layouts_on,
    load,
    vae_config,
)
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle
from talkverse_jax.weights.rule import torch_tensor


def run_train_loss(bundle: Bundle, mesh: MeshConfig | None) -> Case:
    """Loss, the norm of every tensor's gradient, and some gradients whole; nothing is dropped."""
    inputs, config = bundle.group("inputs"), bundle.config
    sizes = inputs["noise"].shape[1], inputs["audio"].shape[1]
    transformer = dit_config(config["dit"], config["motion_frames"], *sizes)
    layouts = layouts_on(mesh, transformer.trunk.num_heads)
    dit = load(bundle, "dit", transformer, layouts, "dit")
    batch = _batch(bundle, inputs, transformer, layouts)
    no = jnp.zeros(len(inputs["timestep"]), bool)
    noise = jnp.moveaxis(jnp.asarray(inputs["noise"]), 1, -1)
    draw = flow.Draw(jnp.asarray(inputs["timestep"]), noise, Dropouts(no, no, no, no))
    graphdef, params, frozen, _ = tree.divide(dit, lambda _: True)

    @jax.jit
    def loss_and_gradients(params):
        def loss(params):
            model = tree.join(graphdef, params, frozen)
            return batch_losses(model, batch, draw, bundle.config["roi_loss"]).mean()

        return jax.value_and_grad(loss)(params)

    loss, gradients = loss_and_gradients(params)
    by_name = _torch_gradients(tree.parameters(tree.join(graphdef, gradients, frozen)))
    outputs = {"loss": np.asarray(loss)}
    outputs |= {f"grad/{name}": gradient for name, gradient in by_name.items()}
    outputs["grad_norms"] = np.array([np.linalg.norm(by_name[name].ravel()) for name in sorted(by_name)])
    return Case(outputs, _taps(batch, draw))


def _batch(bundle: Bundle, inputs, transformer, layouts) -> TrainingBatch:
    config = bundle.config
    if "video" in inputs:
        vae = load(bundle, "vae", vae_config(config["vae"]), layouts, "vae")
        encode = jax.jit(type(vae).encode)
        latents = encode(vae, jnp.moveaxis(jnp.asarray(inputs["video"]), 2, -1) * 2 - 1)
        reference = encode(vae, jnp.moveaxis(jnp.asarray(inputs["cond_image"]), 1, -1)[:, None] * 2 - 1)
    else:  # left out because they are large: the VAE's results are there
        latents, reference = map(channels_last, map(bundle.group("taps").get, ("video_latents", "ref_latents")))
    history = transformer.motion_latent_frames
    motion = jnp.zeros((len(latents), history, *latents.shape[2:]))
    if config["has_motion"]:
        motion, latents = latents[:, :history], latents[:, history:]
    rows = jnp.transpose(jnp.asarray(inputs["audio"]), (0, 3, 1, 2))[:, -config["num_frames"] :]
    text = inputs["context"]
    text = np.pad(text, ((0, 0), (0, transformer.trunk.text_len - text.shape[1]), (0, 0)))
    grid = latents.shape[1:4]
    masks = [_on_grid(inputs[f"{part}_masks"], grid) for part in ("face", "body")]
    return TrainingBatch(
        target=latents,
        motion=motion,
        reference=reference,
        audio=rows,
        text=text,
        null_text=np.zeros_like(text[0]),
        face=masks[0],
        body=masks[1],
        weight=np.ones(len(text), np.float32),
        ids=np.zeros((len(text), 2), np.uint32),
    )


def _on_grid(mask: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """The nearest pixel of each latent cell: frame, row and column i of n are those at floor(i T / n)."""
    for axis, cells in enumerate(grid, start=1):
        mask = np.take(mask, np.arange(cells) * mask.shape[axis] // cells, axis=axis)
    return mask


def _torch_gradients(gradients: tree.Flat) -> dict[str, np.ndarray]:
    """By PyTorch name, in PyTorch's layout."""
    return dict(torch_tensor(RULES, path, np.asarray(gradient)) for path, gradient in gradients.items())


def _taps(batch: TrainingBatch, draw: flow.Draw) -> dict[str, np.ndarray]:
    both = jnp.concatenate([batch.motion, batch.target], axis=1) if batch.motion.any() else batch.target
    return {
        "video_latents": channels_second(both),
        "motion_latents": channels_second(batch.motion),
        "ref_latents": channels_second(batch.reference),
        "audio_slice": np.transpose(np.asarray(batch.audio), (0, 2, 3, 1)),
        "noisy_latents": channels_second(flow.noisy(batch.target, draw.noise, draw.timestep)),
        "roi_weights": np.asarray(flow.roi_weights(batch.face, batch.body))[:, None],
    }
