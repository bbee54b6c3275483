"""The five models of MultiTalk, and their sizes together."""

from talkverse_jax.families.multitalk import axes as dit_axes
from talkverse_jax.families.multitalk import keys as dit_keys
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.models.umt5.component import umt5
from talkverse_jax.models.vae.component import vae21
from talkverse_jax.models.wan import diffusers_names
from talkverse_jax.models.wan.config import WIDTHS
from talkverse_jax.models.wan.keys import PREFIXES
from talkverse_jax.sharding.rules import SAMPLING
from talkverse_jax.weights.component import Component

COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component(
            name="dit",
            config_type=MultiTalkConfig,
            model_type=MultiTalk,
            rules=dit_keys.RULES,
            axes=dit_axes.AXES,
            ignored=(),
            real_size=MultiTalkConfig.multitalk_14b,
            dtype="bfloat16",
            split=SAMPLING,
            to_published=diffusers_names.to_published,
            prefixes=PREFIXES,
            widths=WIDTHS,
        ),
        vae21(),
        umt5(),
    )
}
