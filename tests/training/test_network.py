"""How training begins: which parameters each strategy trains, and where their values come from."""

import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.config import load_toml
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.keys import RULES
from talkverse_jax.families.talkverse.published import DIT_STEM
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.beginning import begin
from talkverse_jax.training.network import NetworkSettings, abstract, divide, load_network
from talkverse_jax.training.strategy import Strategy, matches
from talkverse_jax.weights import store
from talkverse_jax.weights.rule import find_rule
from talkverse_jax.weights.safetensors_io import merge, read_shards
from tests.conftest import CONFIGS

NAMES = ("none", "framepack", "minimal", "lora", "moderate", "aggressive", "full")
DIT, PARTS = COMPONENTS["dit"], TRAINING.trainable
TINY = load_toml(ModelConfigs, CONFIGS / "model_tiny.toml").dit


def trained(config, name, **more) -> set[str]:
    strategy = Strategy.of(name, PARTS, config, **more)
    module = abstract(DIT, config, NetworkSettings(strategy), Layout())
    network, _ = divide(module, strategy, Layout())
    return {path for paths in network.paths.values() for path in paths}


def test_the_strategies_at_full_size():
    config = TalkVerseConfig.talkverse_5b()
    of = {name: trained(config, name) for name in NAMES}
    assert of["none"] == of["framepack"]
    count = lambda name: len(of[name]) - len(of["none"])  # noqa: E731
    assert (count("minimal"), count("lora")) == (9, 9 + 480)
    for name, first in (("moderate", 25), ("aggressive", 20), ("full", 0)):
        assert {int(path.split("/")[1]) for path in of[name] - of["minimal"]} == set(range(first, 30))
    assert len(trained(config, "minimal", everything=True)) == 976


def test_which_layers_have_adapters():
    config = TalkVerseConfig.talkverse_5b()
    module = abstract(DIT, config, NetworkSettings(Strategy.of("lora", PARTS, config)), Layout())
    shapes = tree.abstract_parameters(module)
    pairs = lora.pairs(shapes)
    assert len(pairs) == 240 and not any("/v/" in path for path in pairs)
    assert shapes["blocks/29/ffn/linear_in/adapter/a"].shape == (3072, 128)
    assert shapes["blocks/29/ffn/linear_in/adapter/b"].shape == (128, 14336)


def test_groups():
    strategy, everything = Strategy.of("lora", PARTS, TINY), Strategy.of("lora", PARTS, TINY, everything=True)
    adapter = "blocks/0/ffn/linear_in/adapter/a"
    assert [strategy.group(p) for p in (adapter, "frame_packer/embeddings/0/kernel", "audio_encoder/x")] == [
        "lora", "scaled", "rest",
    ]  # fmt: skip
    assert everything.group("audio_encoder/x") == "scaled"
    assert everything.group("frame_packer/embeddings/0/kernel") == "rest"


def load(weights, settings):
    """A network that begins with its weights alone, of the rank and alpha of the settings."""
    start = begin(str(weights), DIT, settings, (), settings.rank, settings.alpha)
    return load_network(str(weights), DIT, settings, Layout(), start)


def by_path(network, params):
    return tree.parameters(network.model(params))


@pytest.fixture(scope="module")
def reference(tiny_weights):
    return tree.parameters(store.load_module(tiny_weights, COMPONENTS["dit"], dtype="float32"))


def test_trained_parameters_are_float32_and_the_others_as_products_are(tiny_weights, reference):
    strategy = Strategy.of("moderate", PARTS, TINY)
    network, params = load(tiny_weights, NetworkSettings(strategy))
    values = by_path(network, params)
    assert values.keys() == reference.keys()
    for path, value in values.items():
        assert value.dtype == (jnp.float32 if strategy.trains(path) else jnp.bfloat16)
        np.testing.assert_array_equal(value, reference[path])  # stored in bfloat16


def test_a_new_adapter_changes_nothing_at_first(tiny_weights, reference):
    settings = NetworkSettings(Strategy.of("lora", PARTS, TINY), rank=4, alpha=4.0, dtype="float32")
    network, params = load(tiny_weights, settings)
    values = by_path(network, params)
    pairs = lora.pairs(values)
    assert len(pairs) == 4 * 8
    for kernel, (a, b) in pairs.items():
        assert not values[b].any() and np.abs(values[a]).max() <= values[kernel].shape[0] ** -0.5
        assert np.std(values[a]) == pytest.approx((3 * values[kernel].shape[0]) ** -0.5, rel=0.2)
        np.testing.assert_array_equal(values[kernel], reference[kernel])


def test_adapters_go_on_from_pairs_beside_the_weights(tiny_pairs_apart):
    network, params = load(
        tiny_pairs_apart, NetworkSettings(Strategy.of("lora", PARTS, TINY), rank=128, alpha=64.0, dtype="float32")
    )
    values = by_path(network, params)
    merged = tree.parameters(store.load_module(tiny_pairs_apart, COMPONENTS["dit"]))
    for kernel, (a, b) in lora.pairs(values).items():
        np.testing.assert_allclose(values[kernel] + 64 / 128 * values[a] @ values[b], merged[kernel], atol=1e-5)
    network, params = load(tiny_pairs_apart, NetworkSettings(Strategy.of("full", PARTS, TINY), dtype="float32"))
    for path, value in by_path(network, params).items():
        np.testing.assert_array_equal(value, merged[path])


def test_pairs_of_another_rank_are_refused(tiny_pairs_apart):
    with pytest.raises(UserError, match="rank 128 and alpha 64; pass --lora_rank 128 --lora_alpha 64"):
        load(tiny_pairs_apart, NetworkSettings(Strategy.of("lora", PARTS, TINY), rank=64, alpha=64.0))


def test_the_base_model_with_an_adapter_drawn_anew(tiny_pairs_apart, tiny_checkpoint, tiny_weights):
    """As the original's training begins: not a number of TalkVerse's file is left."""
    settings = NetworkSettings(Strategy.of("full", PARTS, TINY), beginning="adapter", dtype="float32", seed=1)
    values = by_path(*load(tiny_pairs_apart, settings))
    shards = read_shards(tiny_checkpoint["ckpt_dir"], DIT_STEM)
    base = merge(shards)
    for path, value in values.items():
        rule, (name, *_) = find_rule(RULES, path)
        assert (name in base) == (not matches(path, PARTS.own))
        if name in base:
            np.testing.assert_array_equal(value, rule.layout.from_torch(base[name]).astype(np.float32))
    assert np.isfinite(values["audio_injectors/0/attention/q/kernel"]).all() and not values["token_kind"].any()
    with pytest.raises(UserError, match="convert it with --lora_merge false"):
        load(tiny_weights, settings)


@pytest.mark.slow
def test_everything_drawn_anew(tiny_weights, reference):
    settings = NetworkSettings(Strategy.of("none", PARTS, TINY), beginning="all", seed=1)
    network, params = load(tiny_weights, settings)
    values = by_path(network, params)
    same = {path for path in values if (np.asarray(values[path]) == np.asarray(reference[path])).all()}
    assert not any(path.endswith("kernel") for path in same)
    assert all(np.isfinite(x).all() for x in values.values())
    assert values["blocks/0/ffn/linear_in/kernel"].dtype == jnp.bfloat16
