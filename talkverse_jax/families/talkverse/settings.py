"""What a person may set of TalkVerse; names follow the original where it has them. Imports no JAX."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.diffusion.names import SolverName
from talkverse_jax.media.buckets import Fit
from talkverse_jax.models.umt5.prompts import check_prompts
from talkverse_jax.pipeline.common_options import (
    audio_window_option,
    check_audio_window,
    check_logit_normal,
    check_sample_window,
    check_size,
    guide_every_option,
    logit_normal_option,
    model_every_option,
    num_clip_option,
    sample_window_option,
    seconds_option,
    seed_option,
    size_option,
    temporal_loss_option,
    text_file_option,
    timestep_shift_option,
    tiny_decoder_file_option,
    vae_file_option,
)
from talkverse_jax.pipeline.decoders import DecoderName, decoder_option
from talkverse_jax.pipeline.request import RequestTable, SpeakerFiles

AudioAlignment = Literal["exact", "upstream"]
VideoEnd = Literal["hold", "loop"]

# What the original tells the model to avoid, in words of our own: blur, poor quality, agitation, trembling
# hands, captions, ugliness, damage, surplus fingers, badly drawn hands and faces, deformity, merged fingers,
# stillness, clutter, three legs, crowds, walking backwards.
DEFAULT_NEGATIVE_PROMPT = (
    "模糊不清，画质极差，过度激动，双手急速抖动，带字幕，丑陋，肢体残缺，手指多余，手部画得糟糕，面部画得糟糕，"
    "肢体变形，手指粘连，画面静止，背景凌乱，三条腿，背景里人群拥挤，倒退行走"
)


@dataclasses.dataclass(frozen=True)
class Files:
    """What a video is made of."""

    image: str = option("picture of the person, or a video to dub", group="input", metavar="FILE", decides=True)
    audio: str | None = option(
        "sound: wav, mp3, flac, m4a, ogg, or a video (needed with a picture; default: the sound of the video to dub)",
        group="input",
        metavar="FILE",
        default=None,
        decides=True,
    )


def of_person(picture: str, sound: str, caption: str) -> dict[str, str]:
    """The options of a video in which the person of a picture says a sound."""
    return {"image": picture, "audio": sound, "prompt": caption}


def of_request(image: str, people: Sequence[SpeakerFiles]) -> dict[str, str]:
    """The options of a video that is asked for by a request; without people a video to dub keeps its sound."""
    sound = people[0].sound if people else None
    return {"image": image} if sound is None else {"image": image, "audio": sound}


REQUEST = RequestTable(of_request, takes_video=lambda weights: True, motion_frames=73)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a video is made."""

    prompt: str = option("what is seen: the person, the scene, the manner", group="input", metavar="TEXT", decides=True)
    negative_prompt: str = option(
        "what to avoid", group="input", metavar="TEXT", default=DEFAULT_NEGATIVE_PROMPT, decides=True
    )
    size_bucket: str = option(
        "table of sizes (fasttalk-480, fasttalk-720, tiny-128); the video takes the one closest to the picture's shape",
        group="video",
        metavar="NAME",
        default="fasttalk-720",
        decides=True,
        alias="bucket",
        lowers_memory=(5, "(smaller sizes)"),
    )
    size: str = size_option()
    fit: Fit = option(
        "pad: as the original does, with black bars where the size is longer than the picture; crop: as training does, "
        "without bars; exact: a size of the picture's own shape and the bucket's area",
        group="video",
        default="pad",
        decides=True,
    )
    infer_frames: int = option(
        "frames of a clip, a multiple of 4; the first clip shows 3 fewer",
        group="video",
        metavar="N",
        default=120,
        decides=True,
        least=4,
        lowers_memory=(7, "(fewer)"),
    )
    num_clip: int | None = num_clip_option()
    seconds: float | None = seconds_option()
    init_first_frame: bool = option("begin with the picture itself", group="video", default=False, decides=True)
    empty_history: bool = option(
        "the model sees a history of nothing before the first clip, as in training; the original's sees none",
        group="video",
        default=False,
        decides=True,
    )
    keep_latents: bool = option(
        "the next clip looks back at the latents of this one; the original's encodes its frames again",
        group="video",
        default=False,
        decides=True,
    )
    lead_in_frames: int = option(
        "frames that are made before the video's first one and not shown, where a decoder begins unsteadily; no sound "
        "is lost: they hear its beginning",
        group="video",
        metavar="N",
        default=0,
        decides=True,
        least=0,
    )
    audio_alignment: AudioAlignment = option(
        "exact: every frame shows its own sound; upstream: as the original does (later clips 3 frames ahead)",
        group="video",
        default="exact",
        decides=True,
    )
    dubbing_noise_strength: float = option(
        "noise over the frames of a video to dub; at 1 nothing of them is left but the reference",
        group="video",
        metavar="X",
        default=0.95,
        decides=True,
        least=0.001,
        most=1,
    )
    video_end: VideoEnd = option(
        "when a video to dub is shorter than the sound: hold its last frame, or show the video again (loop)",
        group="video",
        default="hold",
        decides=True,
    )
    audio_window: int = audio_window_option()
    head_trim_frames: int = option(
        "frames to cut from the start, with their sound", group="video", metavar="N", default=0, decides=True, least=0
    )
    decode_context: int | None = option(
        "latent frames of the clip before that are decoded once more, so that a clip begins as they end; fewer are "
        "faster (default: all 19, as the original does)",
        group="video",
        metavar="N",
        default=None,
        decides=True,
        least=1,
    )
    decoder: DecoderName = decoder_option()
    sample_solver: SolverName = option(
        "how the noise is taken away: UniPC, DPM-Solver++, Euler, or, of a student of few steps, whole in each step "
        "and then put back anew (renoise)",
        group="sampling",
        default="unipc",
        decides=True,
    )
    sample_steps: int = option(
        "denoising steps of each clip", group="sampling", metavar="N", default=50, decides=True, least=1
    )
    sample_shift: float = option(
        "how far the steps are moved towards strong noise; 1 leaves them even",
        group="sampling",
        metavar="X",
        default=5.0,
        decides=True,
        above=0,
    )
    sample_guide_scale: float = option(
        "how strongly prompt and sound guide the video; 1 or less turns guidance off and halves the work",
        group="sampling",
        metavar="X",
        default=4.5,
        decides=True,
    )
    sample_model_every: int = model_every_option()
    sample_guide_every: int = guide_every_option()
    sample_window: tuple[float, ...] = sample_window_option()
    base_seed: int = seed_option()

    def __post_init__(self):
        check_prompts(self, "prompt", "negative_prompt")
        check_bounds(self)
        check_audio_window(self)
        check_sample_window(self)
        check_size(self, self.fit == "exact")

    @property
    def guided(self) -> bool:
        """Whether the branch without prompt and sound runs too."""
        return self.sample_guide_scale > 1

    @property
    def fewest_branches(self) -> int:
        """Of the steps that run the transformer: 1 where there are some without that branch."""
        return 2 if self.guided and self.sample_guide_every == 1 else 1


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """What a sample of a video is made of, when it is prepared for training."""

    audio_alignment: AudioAlignment = option(
        "exact: every frame hears its own sound; upstream: short windows hear 3 frames ahead, as in the original",
        group="input",
        default="exact",
    )


@dataclasses.dataclass(frozen=True)
class TrainingSettings(WindowSettings):
    """How the model is trained."""

    text_dropout_prob: float = option(
        "probability that the caption of a sample is left out",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    audio_dropout_prob: float = option(
        "probability that the sound of a sample is left out",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    img_dropout_prob: float = option(
        "probability that the picture of a sample is left out",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    framepack_dropout_prob: float = option(
        "probability that the motion frames of a sample are left out",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    logit_normal: tuple[float, ...] = logit_normal_option()
    timestep_shift: float = timestep_shift_option()
    temporal_loss: float = temporal_loss_option()
    audio_zero_init_lr_scaling: float = option(
        "factor of the learning rate for the frame packer, or with --finetune_all for the audio adapter",
        group="optimizer",
        metavar="X",
        default=10.0,
        above=0,
    )

    def __post_init__(self):
        check_bounds(self)
        check_logit_normal(self)

    @property
    def raised_rate(self) -> float:
        """Times the base rate: that of the parameters with a raised one."""
        return self.audio_zero_init_lr_scaling


@dataclasses.dataclass(frozen=True)
class Sources:
    """The published files, for the conversion."""

    ckpt_dir: str | None = option(
        "the folder of Wan-AI/Wan2.2-TI2V-5B, as Wan or diffusers publishes it (dit, vae, text)",
        group="from",
        metavar="DIR",
        default=None,
    )
    dit_file: str | None = option(
        "one file to take the base model from instead: safetensors or GGUF, alone or among others (dit)",
        group="from",
        metavar="FILE",
        default=None,
    )
    vae_file: str | None = vae_file_option()
    tiny_decoder: str | None = tiny_decoder_file_option("taew2_2")
    text_file: str | None = text_file_option()
    lora_ckpt: tuple[str, ...] = option(
        "the TalkVerse file, talkverse_s2v_5b.safetensors (dit), and LoRA files of any dialect to be added",
        group="from",
        metavar="FILE",
        default=(),
    )
    wav2vec_dir: str | None = option(
        "the folder of jonatasgrosman/wav2vec2-large-xlsr-53-english (audio; default: the folder of that name in "
        "--ckpt_dir)",
        group="from",
        metavar="DIR",
        default=None,
    )
