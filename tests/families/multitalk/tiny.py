"""Tiny models of every component that fit together, and weights of them."""

from pathlib import Path

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core.config import load_toml
from talkverse_jax.families.multitalk.components import MultiTalkConfigs
from talkverse_jax.families.multitalk.settings import Sources
from talkverse_jax.pipeline import registry
from tests.conftest import CONFIGS

TINY = load_toml(MultiTalkConfigs, CONFIGS / "model_multitalk_tiny.toml")


def write_weights(folder: Path) -> dict[str, Path]:
    """Random weights of MultiTalk and, of the same files, of InfiniteTalk: their folders by recipe."""
    family = registry.find("multitalk")
    published = {flag: str(path) for flag, path in write_random_checkpoint(family, folder / "p", TINY, seed=0).items()}
    infinite = {("infinitetalk_dir" if flag == "multitalk_dir" else flag): path for flag, path in published.items()}
    made = {}
    for recipe, files in (("multitalk", published), ("infinitetalk", infinite)):
        made[recipe] = folder / recipe
        convert(family, ConvertOptions(output=str(made[recipe]), dtype="keep"), Sources(**files), TINY)
    return made
