"""How bundles of the second family are run."""

from functools import partial

import jax
import numpy as np

from talkverse_jax.core.config import from_dict
from talkverse_jax.pipeline.cases import (
    BundleModels,
    ParityCase,
    channels_last,
    channels_second,
    scheduler_case,
    umt5_case,
    vae_case,
    wav2vec2_case,
)
from tests.second.components import COMPONENTS, SOURCES
from tests.second.model import NetConfig
from tests.second.settings import Sources

MODELS = BundleModels(COMPONENTS, SOURCES, Sources)


def net_case(bundle, mesh) -> ParityCase:
    """The velocity, from `text`, `sounds`, `look`, `known`, `latents` and `timestep`."""
    config, inputs = from_dict(NetConfig, bundle.config, str(bundle.path)), bundle.group("inputs")
    net = MODELS.load(bundle, "net", config, MODELS.layouts(mesh, config.trunk.num_heads))

    @jax.jit
    def call(net, text, sounds, look, known, latents, timestep):
        return net.velocity(latents, timestep, net.prepare(text, sounds, look, known))

    known, latents = channels_last(inputs["known"]), channels_last(inputs["latents"])
    velocity = call(net, inputs["text"], inputs["sounds"], inputs["look"], known, latents, inputs["timestep"])
    return ParityCase({"velocity": channels_second(np.asarray(velocity))})


CASES = {
    "net": net_case,
    "vae": partial(vae_case, MODELS, name="pixels"),
    "umt5_encoder": partial(umt5_case, MODELS, name="words"),
    "wav2vec2": partial(wav2vec2_case, MODELS, name="ears"),
    "scheduler": scheduler_case,
}
