"""What a run trains: which networks, by which losses, in which turns.

Flow matching trains one network, which has its component's name. A distillation trains a generator, the student, and a
critic, which both begin as copies, beside a teacher that stays as it is.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optax

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.distil import ScoreLevels, TeacherScales
from talkverse_jax.diffusion.rollout import CRITIC, GENERATOR, TEACHER, CriticLoss, DistilRecipe, GeneratorLoss
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.training import FLOW_MATCHING, BatchShape
from talkverse_jax.training.network import NetworkSettings, Start
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.setup import learning_rates, network_settings, network_start
from talkverse_jax.training.step import Phase
from talkverse_jax.training.strategy import Group

Rule = Callable[[Mapping[str, Group]], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Role:
    """A network's.

    Attributes:
      weights: the folder that it is loaded from.
      start: what it begins with besides.
      rates: None: it is not trained.
      rule: its optimizer, given the groups of its parameters; None likewise.
      ema_decay: of its running average; 0: there is none.
    """

    weights: str
    settings: NetworkSettings
    start: Start
    rates: Rates | None = None
    rule: Rule | None = None
    ema_decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """All of it.

    Attributes:
      roles: by the names that losses find the networks under.
      student: the network that is exported and shown.
      clip_frames: of the clip that an update makes better.
      passes: of each phase, those without a gradient over such a clip, in the mean.
    """

    roles: dict[str, Role]
    student: str
    phases: list[Phase]
    clip_frames: int
    passes: list[float]

    @property
    def rates(self) -> dict[str, Rates]:
        """Of those that updates change."""
        return {name: role.rates for name, role in self.roles.items() if role.rates is not None}


def objective_of(options: TrainOptions, family: Family, configs: Any, *, read: bool = True) -> Objective:
    """What the options ask for.

    Args:
      read: find out in files what networks begin with; else nothing but their sizes is known.

    Raises:
      UserError: files cannot be used (see `beginning.begin`), or the window does not hold such clips.
    """
    settings, start = of_shapes = network_settings(options, family, configs), Start()
    if read:
        settings, start = network_start(options, family, configs)
    given, training, asked = options.input.weights, family.training, options.distil
    student = _trained(options, given, settings, start, learning_rates(options), options.tuning.ema_decay)
    if not asked.distils:
        loss = training.losses[FLOW_MATCHING](configs, options.settings, options.videos.enable_roi_loss)
        name = training.component
        return Objective({name: student}, name, [Phase(name, loss)], options.videos.num_frames, [0.0])
    if training.clips is None:
        raise UserError(f"distil: is not known of {family.title}; leave it out", field="objective")
    teacher = asked.teacher or given
    settings, start = network_start(options, family, configs, teacher) if read else of_shapes
    rates = dataclasses.replace(learning_rates(options), base=asked.critic_learning_rate)
    roles = {
        GENERATOR: student,
        CRITIC: _trained(options, teacher, settings, start, rates),
        TEACHER: Role(teacher, settings, Start()),
    }
    frames = options.videos.num_frames
    clip_frames = asked.clip_frames or frames
    clips = training.clips(configs, options.settings, frames, clip_frames)
    recipe = DistilRecipe(
        asked.student_steps,
        asked.student_shift,
        ScoreLevels(asked.score_shift, *asked.score_levels),
        TeacherScales(asked.teacher_text_scale, asked.teacher_audio_scale),
    )
    critic, generator = CriticLoss(clips, recipe), GeneratorLoss(clips, recipe)
    phases = [Phase(CRITIC, critic, asked.critic_updates), Phase(GENERATOR, generator)]
    return Objective(roles, GENERATOR, phases, clip_frames, [critic.passes, generator.passes])


def phase_flops(
    objective: Objective, phase: int, options: TrainOptions, family: Family, configs: Any, size: tuple[int, int]
) -> float:
    """Floating-point operations of a batch, in the mean.

    Args:
      size: (H, W) in pixels.
    """
    shape = BatchShape(options.optimization.batch_size, objective.clip_frames, *size)
    strategy = objective.roles[objective.phases[phase].network].settings.strategy
    of_blocks = lambda blocks: family.training.flops(configs, options.settings, shape, blocks)  # noqa: E731
    forward = of_blocks(0) / 2  # which counts the gradients of activations
    return of_blocks(strategy.whole_blocks) + objective.passes[phase] * forward


def _trained(
    options: TrainOptions, weights: str, settings: NetworkSettings, start: Start, rates: Rates, ema: float = 0.0
) -> Role:
    asked = options.optimization
    rule = partial(make_optimizer, rates=rates, name=asked.optimizer, betas=asked.adam_betas, decay=asked.weight_decay)
    return Role(weights, settings, start, rates, rule, ema)
