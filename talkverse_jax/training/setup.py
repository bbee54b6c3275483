"""What the options ask for: network, rates, phases; and the programs of a run of shapes alone, for plans and tests."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from talkverse_jax.core import tree
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.training import FLOW_MATCHING, BatchShape
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.beginning import begin
from talkverse_jax.training.network import Network, NetworkSettings, Start, abstract, divide
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.state import States, start_abstract
from talkverse_jax.training.step import Phase, Trained, TrainingStep
from talkverse_jax.training.strategy import Strategy


def network_settings(options: TrainOptions, family: Family, configs: Any) -> NetworkSettings:
    """What the options say of the network that is trained."""
    training, tuning = family.training, options.tuning
    config = getattr(configs, training.component)
    return NetworkSettings(
        strategy=Strategy.of(tuning.unfreeze_strategy, training.trainable, config, tuning.finetune_all),
        rank=tuning.lora_rank or NetworkSettings.rank,
        alpha=tuning.lora_alpha or NetworkSettings.alpha,
        beginning=tuning.init,
        seed=options.videos.seed,
        dtype=options.machine.dtype,
        kernel=options.machine.attention,
        remat=options.machine.remat,
    )


def network_start(options: TrainOptions, family: Family, configs: Any) -> tuple[NetworkSettings, Start]:
    """The same with the rank and the alpha that the adapters really have, and what the run begins with.

    Raises:
      UserError: see `begin`.
    """
    settings, tuning, given = network_settings(options, family, configs), options.tuning, options.input
    component = family.components[family.training.component]
    start = begin(given.weights, component, settings, given.trained_files, tuning.lora_rank, tuning.lora_alpha)
    return dataclasses.replace(settings, rank=start.rank, alpha=start.alpha), start


def learning_rates(options: TrainOptions) -> Rates:
    """Of every group."""
    return Rates(
        base=options.optimization.learning_rate,
        lora=options.optimization.lora_lr_scale,
        scaled=options.settings.raised_rate,
        warmup=options.optimization.warmup_steps,
        shape=options.optimization.schedule,
        steps=options.optimization.falling_steps,
    )


def optimizer_of(options: TrainOptions, network: Network) -> optax.GradientTransformation:
    """Of the network that is trained."""
    return make_optimizer(network.groups, learning_rates(options), options.optimization.optimizer)


def phases(options: TrainOptions, family: Family, configs: Any) -> list[Phase]:
    """What is trained, by which loss."""
    make_loss = family.training.losses[FLOW_MATCHING]
    return [Phase(family.training.component, make_loss(configs, options.settings, options.videos.enable_roi_loss))]


def abstract_step(options: TrainOptions, family: Family, configs: Any, layout: Layout) -> tuple[TrainingStep, States]:
    """The programs of a run and its states, of shapes and shardings alone.

    Args:
      configs: of the family's components.
      layout: of the network; its devices need not be there.
    """
    component, settings = family.components[family.training.component], network_settings(options, family, configs)
    strategy, place = settings.strategy, layout.parameter_sharding(component.axes)
    module = abstract(component, getattr(configs, component.name), settings, layout)
    parameters = {
        path: jax.ShapeDtypeStruct(
            leaf.shape,
            jnp.dtype("float32" if strategy.trains(path) else settings.dtype),
            sharding=place(path, leaf.shape),
        )
        for path, leaf in tree.abstract_parameters(module).items()
    }
    network, params = divide(tree.with_parameters(module, parameters), strategy, layout)
    optimizer, decay = optimizer_of(options, network), options.tuning.ema_decay
    states = {component.name: start_abstract(params, optimizer, decay > 0)}
    trained = {component.name: Trained(network, optimizer, decay)}
    return TrainingStep(trained, phases(options, family, configs), states, seed=options.videos.seed), states


def abstract_batch(options: TrainOptions, family: Family, configs: Any, size: tuple[int, int], layout: Layout) -> Any:
    """A batch of shapes and shardings alone.

    Args:
      size: (H, W) in pixels.
    """
    training = family.training
    shape = BatchShape(options.optimization.batch_size, options.videos.num_frames, *size, options.machine.dtype)
    batch = training.inputs_spec(configs, options.settings, shape)
    return batch._replace(
        **{
            name: jax.ShapeDtypeStruct(
                x.shape,
                x.dtype,
                sharding=layout.sharding(*(() if name in training.samples.constants else ("batch",))),
            )
            for name, x in batch._asdict().items()
        }
    )
