"""What `sample.py` can be told, by flag or by config file; names follow the original where it has them."""

import dataclasses
import math
import random
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.diffusion.flow import SolverName
from talkverse_jax.families.talkverse.settings import AudioAlignment
from talkverse_jax.media.buckets import BUCKETS
from talkverse_jax.media.source_video import VideoEnd
from talkverse_jax.ops.names import KernelName
from talkverse_jax.pipeline.long_sound import check_window
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """How clips are sampled.

    Attributes:
      infer_frames: frames a clip, a multiple of 4.
      sample_steps, sample_shift, sample_solver: the noise schedule and its solver.
      sample_guide_scale: classifier-free guidance; at 1 or less the conditional branch runs alone.
      init_first_frame: start from the picture: it ends the history of the first clip.
      audio_alignment: see `alignment`.
      dubbing_noise_strength: of a video that is dubbed, the noise that its own frames are put under, from 0 to 1;
        the schedule is walked from that level on.
      offload_model: keep the transformer in host memory while the VAE works.
    """

    infer_frames: int
    sample_steps: int
    sample_shift: float
    sample_guide_scale: float
    sample_solver: SolverName
    init_first_frame: bool
    audio_alignment: AudioAlignment
    dubbing_noise_strength: float = 0.95
    offload_model: bool = False

    def __post_init__(self):
        if self.infer_frames < 4 or self.infer_frames % 4:
            near = max(4, round(self.infer_frames / 4) * 4)
            raise UserError(
                f"--infer_frames {self.infer_frames}: a latent frame holds 4 frames; give a multiple of 4, "
                f"such as {near}"
            )
        if self.sample_steps < 1:
            raise UserError(f"--sample_steps {self.sample_steps}: give at least 1")
        if not 0 < self.sample_shift < math.inf:
            raise UserError(f"--sample_shift {self.sample_shift}: give a number above 0")
        if not math.isfinite(self.sample_guide_scale):
            raise UserError(f"--sample_guide_scale {self.sample_guide_scale}: give a number, such as 4.5")
        if not 0.001 <= self.dubbing_noise_strength <= 1:
            raise UserError(f"--dubbing_noise_strength {self.dubbing_noise_strength}: give a number from 0.001 to 1")

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch runs too."""
        return self.sample_guide_scale > 1


# What the original tells the model to avoid, in words of our own: blur, poor quality, agitation, trembling
# hands, captions, ugliness, damage, surplus fingers, badly drawn hands and faces, deformity, merged fingers,
# stillness, clutter, three legs, crowds, walking backwards.
DEFAULT_NEGATIVE_PROMPT = (
    "模糊不清，画质极差，过度激动，双手急速抖动，带字幕，丑陋，肢体残缺，手指多余，手部画得糟糕，面部画得糟糕，"
    "肢体变形，手指粘连，画面静止，背景凌乱，三条腿，背景里人群拥挤，倒退行走"
)

# Settings of other groups than "video" and "sampling" that decide the video too. (Where and how fast the work is
# done changes it in the last digits.)
_DECISIVE = {"prompt", "negative_prompt", "lora_rank", "lora_alpha", "dtype", "vae_dtype"}


@dataclasses.dataclass(frozen=True)
class SampleOptions(ProcessOptions):
    """One run of `sample.py`."""

    weights: str = option("folder that convert_torch_weights.py wrote", group="input", metavar="DIR")
    image: str | None = option(
        "picture of the person, or a video to dub (required, but for --batch)",
        group="input",
        metavar="FILE",
        default=None,
    )
    prompt: str | None = option(
        "what is seen: the person, the scene, the manner (required, but for --batch)",
        group="input",
        metavar="TEXT",
        default=None,
    )
    audio: str | None = option(
        "sound: wav, mp3, flac, m4a, ogg, or a video's (required with a picture; default: that of the video to dub)",
        group="input",
        metavar="FILE",
        default=None,
    )
    output: str = option("the video to write (.mp4)", group="output", metavar="FILE", default="talk.mp4")
    resume: bool = option(
        "go on with the video that a stopped run of the same command left unfinished", group="output", default=False
    )
    negative_prompt: str = option("what to avoid", group="input", metavar="TEXT", default=DEFAULT_NEGATIVE_PROMPT)
    lora_ckpt: str | None = option(
        "a further trained file (.safetensors): its tensors replace the weights', its LoRA pairs are added",
        group="input",
        metavar="FILE",
        default=None,
    )
    lora_rank: int = option("rank of the pairs in --lora_ckpt", group="input", metavar="N", default=128)
    lora_alpha: float = option("alpha of the pairs in --lora_ckpt", group="input", metavar="X", default=128.0)
    size_bucket: str = option(
        f"table of sizes ({', '.join(BUCKETS)}); the one closest to the picture's shape is taken",
        group="video",
        metavar="NAME",
        default="fasttalk-720",
    )
    infer_frames: int = option(
        "frames a clip, a multiple of 4; the first shows 3 less", group="video", metavar="N", default=120
    )
    num_clip: int | None = option(
        "clips to make (default: until the sound ends)", group="video", metavar="N", default=None
    )
    init_first_frame: bool = option("start from the picture itself", group="video", default=False)
    audio_alignment: AudioAlignment = option(
        "exact: every frame shows its own sound; upstream: as the original does (later clips 3 frames ahead)",
        group="video",
        default="exact",
    )
    dubbing_noise_strength: float = option(
        "noise over the frames of a video to dub, 0.001 to 1: 1 leaves nothing of them but the reference",
        group="video",
        metavar="X",
        default=0.95,
    )
    video_end: VideoEnd = option(
        "of a video to dub that is shorter than the sound: hold its last frame, or show it again",
        group="video",
        default="hold",
    )
    audio_window: int = option(
        "a sound of more seconds is encoded in overlapping windows of so many (30 or more); "
        "0: in one pass, whose memory grows",
        group="video",
        metavar="N",
        default=60,
    )
    head_trim_frames: int = option("frames cut from the start, with their sound", group="video", metavar="N", default=0)
    sample_solver: SolverName = option("solver", group="sampling", default="unipc")
    sample_steps: int = option("denoising steps a clip", group="sampling", metavar="N", default=50)
    sample_shift: float = option("shift of the noise levels towards noise", group="sampling", metavar="X", default=5.0)
    sample_guide_scale: float = option(
        "guidance by prompt and sound; 1 or less turns it off and halves the work",
        group="sampling",
        metavar="X",
        default=4.5,
    )
    base_seed: int = option(
        "the same seed gives the same video; -1 draws one and prints it",
        group="sampling",
        metavar="N",
        default=-1,
    )
    batch: str | None = option(
        "make many videos: a JSON list, or JSON lines, of objects with image, audio, prompt and other flags "
        "(docs/sampling.md)",
        group="batch",
        metavar="FILE",
        default=None,
    )
    output_dir: str | None = option(
        "folder of the batch, which its workers share, on a disk or in a bucket (required with --batch)",
        group="batch",
        metavar="DIR",
        default=None,
    )
    batch_size: int = option("videos of one shape that are denoised together", group="batch", metavar="N", default=1)
    lease_timeout: int = option(
        "seconds without a sign of life after which another worker's videos are taken over",
        group="batch",
        metavar="S",
        default=120,
    )
    dtype: Literal["bfloat16", "float32"] = option(
        "of the transformer's and text encoder's matrix products", group="machine", default="bfloat16"
    )
    vae_dtype: Literal["bfloat16", "float32"] = option(
        "of the VAE; a bfloat16 encode spoils long videos", group="machine", default="float32"
    )
    mesh: str | None = option(
        "devices along each axis, such as data=2,context=-1, or a file of configs/mesh "
        "(default: all accelerators, or one CPU)",
        group="machine",
        metavar="AXES",
        default=None,
    )
    attention: KernelName = option(
        "kernel: splash on TPUs, cudnn on GPUs, xla anywhere; auto takes the first that can run",
        group="machine",
        default="auto",
    )
    offload_model: bool = option(
        "keep the transformer in host memory while the VAE works", group="machine", default=False
    )
    t5_cpu: bool = option("run the text encoder on the CPU", group="machine", default=False)

    def clip_settings(self) -> ClipSettings:
        names = {field.name for field in dataclasses.fields(ClipSettings)}
        return ClipSettings(**{name: getattr(self, name) for name in names})

    def video_settings(self) -> dict[str, Any]:
        """All that decides the video, but for the files."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata["group"] in ("video", "sampling") or field.name in _DECISIVE
        }

    @property
    def dtypes(self) -> dict[str, str]:
        """Of each component's parameters and products."""
        return {"dit": self.dtype, "vae": self.vae_dtype, "text": self.dtype, "audio": "float32"}

    @property
    def matmul_precision(self) -> str:
        """Of float32 products (the VAE, norms, time): an accelerator makes them in less unless told otherwise."""
        return "highest" if self.dtype == "float32" else "high"

    def checked(self) -> "SampleOptions":
        """The options with the seed drawn, after every check that needs no model.

        Raises:
          UserError: a flag's value cannot be used.
        """
        missing = [f"--{name}" for name in ("image", "prompt") if getattr(self, name) is None]
        if missing:
            raise UserError(f"sample.py: {', '.join(missing)} missing; see sample.py --help")
        if self.output_dir is not None and self.batch is None:
            raise UserError("--output_dir: is for --batch; a single video takes --output")
        self.clip_settings()
        check_window(self.audio_window)
        if self.mesh is not None:
            MeshConfig.read(self.mesh)
        if self.num_clip is not None and self.num_clip < 1:
            raise UserError(f"--num_clip {self.num_clip}: give at least 1, or leave it out")
        if self.head_trim_frames < 0:
            raise UserError(f"--head_trim_frames {self.head_trim_frames}: give 0 or more")
        if not -1 <= self.base_seed < 2**32:
            raise UserError(f"--base_seed {self.base_seed}: give -1 or a number below 2**32")
        if not math.isfinite(self.lora_alpha) or self.lora_rank < 1:
            raise UserError("--lora_rank, --lora_alpha: give a rank of at least 1 and a number")
        seed = random.SystemRandom().randrange(2**31) if self.base_seed == -1 else self.base_seed
        return dataclasses.replace(self, base_seed=seed)
