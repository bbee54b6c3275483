"""What the options ask for: network, rates; and a batch of shapes alone, for plans and tests."""

import dataclasses
from typing import Any

import jax

from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.training import BatchShape
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.beginning import begin
from talkverse_jax.training.network import NetworkSettings, Start
from talkverse_jax.training.optimizer import Rates
from talkverse_jax.training.options import TrainOptions
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


def network_start(
    options: TrainOptions, family: Family, configs: Any, other: str | None = None
) -> tuple[NetworkSettings, Start]:
    """The same with the rank and the alpha that the adapters really have, and what the run begins with.

    Args:
      other: a folder of weights in place of the run's, over which no files are laid.

    Raises:
      UserError: see `begin`.
    """
    settings, tuning, given = network_settings(options, family, configs), options.tuning, options.input
    component = family.components[family.training.component]
    weights, files = (given.weights, given.trained_files) if other is None else (other, ())
    start = begin(weights, component, settings, files, tuning.lora_rank, tuning.lora_alpha)
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
