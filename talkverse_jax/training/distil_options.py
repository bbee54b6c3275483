"""What a distillation can be told (see diffusion/rollout.py). Defaults are those of LongLive 2 for Wan2.2-TI2V-5B
(NVlabs/LongLive, configs/train_dmd.yaml) and of Self-Forcing (guandeh17/Self-Forcing, configs/self_forcing_dmd.yaml),
which agree but for the learning rates. Imports no JAX."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.training.names import ObjectiveName


@dataclasses.dataclass(frozen=True)
class DistilOptions:
    """What is learnt, and of a distillation its numbers."""

    objective: ObjectiveName = option(
        "flow_matching: the data; distil: to do in a few steps without guidance what a teacher does in many, by "
        "distribution matching (DMD)",
        group="distillation",
        default="flow_matching",
    )
    teacher: str | None = option(
        "folder of converted weights of the teacher, with which the critic begins too (default: --weights, without "
        "--lora_ckpt)",
        group="distillation",
        metavar="DIR",
        default=None,
    )
    clip_frames: int | None = option(
        "frames of a clip; a window of --num_frames holds some, of which as many as are drawn are made one behind the "
        "other (default: --num_frames, one clip)",
        group="distillation",
        metavar="N",
        default=None,
        least=1,
    )
    student_steps: int = option(
        "steps of the student: 4 are 1000, 750, 500, 250 before the shift", group="distillation", default=4, least=1
    )
    student_shift: float = option(
        "how far these are moved towards noise, as --sample_shift", group="distillation", default=5.0, above=0
    )
    critic_updates: int = option(
        "updates of the critic for each one of the student (DMD2)", group="distillation", default=5, least=1
    )
    critic_learning_rate: float = option(
        "learning rate of the critic (LongLive 2; Self-Forcing has 4e-7)",
        group="distillation",
        default=2e-6,
        above=0,
    )
    teacher_text_scale: float = option(
        "how strongly the teacher is guided by words; 1 is not at all (LongLive 2 and Self-Forcing, which count from "
        "0, have 3)",
        group="distillation",
        default=4.0,
    )
    teacher_audio_scale: float = option(
        "how strongly the teacher is guided by sound; where both are alike, by both in one",
        group="distillation",
        default=4.0,
    )
    score_shift: float = option(
        "how far the noise levels are moved at which teacher and critic look",
        group="distillation",
        default=5.0,
        above=0,
    )
    score_levels: tuple[float, ...] = option(
        "the lowest and the highest of these levels", group="distillation", default=(0.02, 0.98)
    )

    def __post_init__(self):
        check_bounds(self)
        if len(self.score_levels) != 2 or not 0 < self.score_levels[0] < self.score_levels[1] <= 1:
            given = " ".join(map(str, self.score_levels))
            raise UserError(f"{given}: give two levels above 0, up to 1, such as 0.02 0.98", field="score_levels")
        if not self.distils:
            for name in ("teacher", "clip_frames"):
                if getattr(self, name) is not None:
                    raise UserError("belongs to --objective distil; give both or neither", field=name)

    @property
    def distils(self) -> bool:
        return self.objective == "distil"
