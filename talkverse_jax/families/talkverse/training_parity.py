"""How TalkVerse runs a bundle of the original's training loss: pixels and sound features to loss and gradients."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from talkverse_jax.diffusion import loss as flow
from talkverse_jax.families.talkverse.bundles import MODELS, dit_config
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.training import Dropouts, TrainingBatch, batch_losses
from talkverse_jax.pipeline.cases import ParityCase, channels_last, channels_second, loss_and_gradients, vae_config
from talkverse_jax.pipeline.placement import Layouts
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle


def train_loss_case(bundle: Bundle, mesh: MeshConfig | None) -> ParityCase:
    """Loss and gradients of a batch; nothing is dropped."""
    inputs, config = bundle.group("inputs"), bundle.config
    sizes = inputs["noise"].shape[1], inputs["audio"].shape[1]
    transformer = dit_config(config["dit"], config["motion_frames"], *sizes)
    layouts = MODELS.layouts(mesh, transformer.trunk.num_heads)
    dit = MODELS.load(bundle, "dit", transformer, layouts, "dit")
    batch = _batch(bundle, inputs, transformer, layouts)
    no = jnp.zeros(len(inputs["timestep"]), bool)
    draw = flow.Draw(jnp.asarray(inputs["timestep"]), channels_last(inputs["noise"]), Dropouts(no, no, no, no))
    outputs = loss_and_gradients(
        MODELS.components["dit"], dit, lambda model: batch_losses(model, batch, draw, config["roi_loss"]).mean()
    )
    return ParityCase(outputs, _taps(batch, draw))


def _batch(
    bundle: Bundle, inputs: Mapping[str, np.ndarray], transformer: TalkVerseConfig, layouts: Layouts
) -> TrainingBatch:
    config, taps = bundle.config, bundle.group("taps")
    if "video" in inputs:
        vae = MODELS.load(bundle, "vae", vae_config(MODELS, config["vae"], {}), layouts, "vae")
        encode = jax.jit(type(vae).encode)
        latents = encode(vae, jnp.moveaxis(jnp.asarray(inputs["video"]), 2, -1) * 2 - 1)
        reference = encode(vae, channels_last(inputs["cond_image"])[:, None] * 2 - 1)
    else:  # left out because they are large: the VAE's results are there
        latents, reference = channels_last(taps["video_latents"]), channels_last(taps["ref_latents"])
    history = transformer.motion_latent_frames
    motion = jnp.zeros((len(latents), history, *latents.shape[2:]))
    if config["has_motion"]:
        motion, latents = latents[:, :history], latents[:, history:]
    rows = jnp.transpose(jnp.asarray(inputs["audio"]), (0, 3, 1, 2))[:, -config["num_frames"] :]
    text = inputs["context"]
    text = np.pad(text, ((0, 0), (0, transformer.trunk.text_len - text.shape[1]), (0, 0)))
    face, body = (_on_grid(inputs[f"{part}_masks"], latents.shape[1:4]) for part in ("face", "body"))
    return TrainingBatch(
        target=latents,
        motion=motion,
        reference=reference,
        audio=rows,
        text=jnp.asarray(text),
        null_text=jnp.zeros_like(text[0]),
        face=jnp.asarray(face),
        body=jnp.asarray(body),
        weight=jnp.ones(len(text)),
        ids=jnp.zeros((len(text), 2), jnp.uint32),
    )


def _on_grid(mask: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """The nearest pixel of each latent cell: frame, row and column i of n are those at floor(i T / n)."""
    for axis, cells in enumerate(grid, start=1):
        mask = np.take(mask, np.arange(cells) * mask.shape[axis] // cells, axis=axis)
    return mask


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
