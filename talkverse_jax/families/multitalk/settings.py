"""What a person may set of MultiTalk and InfiniteTalk; names follow the originals where they have them. Imports no
JAX."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import NO_FILE, check_bounds, option
from talkverse_jax.families.multitalk.boxes import check_people
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.input_json import read_input_json
from talkverse_jax.media import buckets
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
from talkverse_jax.weights import manifest

Mode = Literal["streaming", "clip"]
AudioType = Literal["para", "add"]
Way = Literal["exact", "upstream"]
MultiTalkSolver = Literal["euler", "renoise"]  # of `diffusion.names`

buckets.register("multitalk-480", buckets.BUCKETS["fasttalk-480"], typical=(640, 640))
buckets.register("multitalk-720", buckets.BUCKETS["fasttalk-720"], typical=(960, 960))
# For the toy world and the tests: seconds on a CPU.
buckets.register("multitalk-tiny", {1.00: (64, 64), 0.67: (64, 96), 1.50: (96, 64)})

# What the original tells the model to avoid, in words of our own: glare, stillness, blur, captions, art, a grey
# cast, poor quality, ugliness, surplus fingers, badly drawn hands and faces, deformity, merged fingers, clutter, three
# legs, crowds, walking backwards.
DEFAULT_NEGATIVE_PROMPT = (
    "glaring colours, too much light, a frozen picture, nothing moves, blurry, captions, an art style, a painting, "
    "grey all over, poor image quality, compression blocks, ugly, unfinished, too many fingers, hands drawn badly, "
    "faces drawn badly, malformed, crippled limbs, fingers grown together, cluttered surroundings, a third leg, a "
    "crowd behind, going backwards"
)

_MOTION_FRAMES: dict[Recipe, int] = {"multitalk": 25, "infinitetalk": 9}


@dataclasses.dataclass(frozen=True)
class Files:
    """What a video is made of. People are in one order in all lists."""

    image: str = option(
        "picture of the people; InfiniteTalk also takes a video, whose motion is kept",
        group="input",
        metavar="FILE",
        decides=True,
    )
    audio: tuple[str, ...] = option(
        f"a sound for each person: wav, mp3, flac, m4a, ogg, or a video; {NO_FILE} for one who says nothing",
        group="input",
        metavar="FILE",
        decides=True,
    )
    bbox: tuple[str, ...] = option(
        "where each person is in the picture, in its pixels, such as 160,120,1280,1080 (default: of two people, the "
        f"left and the right half); {NO_FILE} for one with a mask",
        group="input",
        metavar="TOP,LEFT,BOTTOM,RIGHT",
        default=(),
        decides=True,
    )
    mask: tuple[str, ...] = option(
        f"instead, a picture of the same size for each person, white where the person is; {NO_FILE} for one with a box",
        group="input",
        metavar="FILE",
        default=(),
        decides=True,
    )
    input_json: str | None = option(
        "JSON file of these options, or of MultiTalk's or InfiniteTalk's keys (cond_image, cond_audio, ...); other "
        "flags win over it; a path in it starts from its folder or, without such a file there, from the current one",
        group="input",
        metavar="FILE",
        default=None,
        expands=read_input_json,
    )

    def __post_init__(self):
        check_people(self.audio, self.bbox, self.mask)

    @property
    def people(self) -> int:
        """How many speak or listen."""
        return len(self.audio)


def of_person(picture: str, sound: str, caption: str) -> dict[str, object]:
    """The options of a video in which the person of a picture says a sound."""
    return {"image": picture, "audio": [sound], "prompt": caption}


def of_request(image: str, people: Sequence[SpeakerFiles]) -> dict[str, object]:
    """The options of a video that is asked for by a request; without people a video has its own sound."""
    if not people:
        return {"image": image, "audio": [image]}
    lists = {
        "audio": [person.sound or NO_FILE for person in people],
        "mask": [person.mask or NO_FILE for person in people],
        "bbox": [person.bbox or NO_FILE for person in people],
    }
    given = {name: values for name, values in lists.items() if name == "audio" or set(values) != {NO_FILE}}
    return {"image": image, **given}


def follows_video(weights: str) -> bool:
    """Whether the motion of a video given as picture is kept: by InfiniteTalk's weights.

    Raises:
      UserError: the weights cannot be read.
    """
    return manifest.sizes(weights, "dit").get("recipe") == "infinitetalk"


def knows_people(weights: str) -> int:
    """How many people of a picture have positions of their own.

    Raises:
      UserError: the weights cannot be read.
    """
    return len(manifest.sizes(weights, "dit")["speaker_ranges"])


# Besides, the field `audio_type` is the option of that name.
REQUEST = RequestTable(
    of_request,
    takes_video=follows_video,
    own_names={
        "guidance_scale": "sample_text_guide_scale",
        "audio_guidance_scale": "sample_audio_guide_scale",
        "motion_frames": "motion_frame",
    },
    most_people="speakers",
    people=knows_people,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a video is made."""

    prompt: str = option("what is seen: the people, the scene, the manner", group="input", metavar="TEXT", decides=True)
    negative_prompt: str = option(
        "what to avoid", group="input", metavar="TEXT", default=DEFAULT_NEGATIVE_PROMPT, decides=True
    )
    audio_type: AudioType = option(
        "para: all sounds begin together; add: one person speaks after the other, in their order",
        group="input",
        default="para",
        decides=True,
    )
    speakers: int | None = option(
        "most people in a picture (default: as many as the weights know, 2 of the published ones); more are an "
        "experiment",
        group="input",
        metavar="N",
        default=None,
        least=1,
    )
    size_bucket: str = option(
        "table of sizes (multitalk-480, multitalk-720, multitalk-tiny); the video takes the one closest to the "
        "picture's shape",
        group="video",
        metavar="NAME",
        default="multitalk-480",
        decides=True,
        alias="bucket",
        lowers_memory=(5, "(smaller sizes)"),
    )
    size: str = size_option()
    mode: Mode = option(
        "streaming: clip after clip, until the sound ends; clip: one clip",
        group="video",
        default="streaming",
        decides=True,
    )
    frame_num: int = option(
        "frames of a clip, 1 more than a multiple of 4",
        group="video",
        metavar="N",
        default=81,
        decides=True,
        least=5,
        lowers_memory=(7, "(fewer)"),
    )
    motion_frame: int | None = option(
        "frames that a clip takes over from the one before, 1 more than a multiple of 4 (default: 25, or 9 of "
        "InfiniteTalk)",
        group="video",
        metavar="N",
        default=None,
        decides=True,
        least=1,
    )
    num_clip: int | None = num_clip_option()
    seconds: float | None = seconds_option()
    max_frames: int | None = option(
        "most frames of the video (default: until the sound ends; the original stops at 1000)",
        group="video",
        metavar="N",
        default=None,
        decides=True,
        least=1,
    )
    length: Way = option(
        "exact: the video is as long as the sound; upstream: as the original does, 3 frames shorter (MultiTalk)",
        group="video",
        default="exact",
        decides=True,
    )
    source_frames: Way = option(
        "of a video given as --image, exact: the pictures at 25 a second of its clock, so that it moves as fast as "
        "before; upstream: one after the other, whatever its rate",
        group="video",
        default="exact",
        decides=True,
    )
    scene_seg: bool = option(
        "make each scene of a video given as --image on its own (needs pip install talkverse_jax[scenes])",
        group="video",
        default=False,
        decides=True,
    )
    color_correction_strength: float = option(
        "how far the colours of every clip are brought back to the picture's; 0: not at all",
        group="video",
        metavar="X",
        default=1.0,
        decides=True,
        least=0,
        most=1,
    )
    audio_window: int = audio_window_option()
    decoder: DecoderName = decoder_option()
    sample_solver: MultiTalkSolver = option(
        "how the noise is taken away: step by step (euler), or, of a student of few steps, whole in each step and then "
        "put back anew (renoise)",
        group="sampling",
        default="euler",
        decides=True,
    )
    sample_steps: int = option(
        "denoising steps of each clip", group="sampling", metavar="N", default=40, decides=True, least=1
    )
    sample_shift: float | None = option(
        "how far the steps are moved towards strong noise; 1 leaves them even (default: 7, or 11 where --size_bucket "
        "is multitalk-720)",
        group="sampling",
        metavar="X",
        default=None,
        decides=True,
        above=0,
    )
    sample_text_guide_scale: float = option(
        "how strongly the prompt guides the video; 1 turns that off and saves a third of the work",
        group="sampling",
        metavar="X",
        default=5.0,
        decides=True,
    )
    sample_audio_guide_scale: float = option(
        "how strongly the sounds guide the video; 1, where the text's is 1 too, turns guidance off",
        group="sampling",
        metavar="X",
        default=4.0,
        decides=True,
    )
    use_apg: bool = option(
        "guide by what is new in each step and at right angles to the video (APG): colours stay quieter",
        group="sampling",
        default=False,
        decides=True,
    )
    apg_momentum: float = option(
        "of --use_apg: how much of a step's guidance goes on in the next; below 0 it is taken back",
        group="sampling",
        metavar="X",
        default=-0.75,
        decides=True,
        of="use_apg",
    )
    apg_norm_threshold: float = option(
        "of --use_apg: the longest a step's guidance may be; 0 sets no limit",
        group="sampling",
        metavar="X",
        default=55.0,
        decides=True,
        of="use_apg",
    )
    use_teacache: bool = option(
        "leave the blocks out where a step differs little from the one before (TeaCache)",
        group="sampling",
        default=False,
        decides=True,
    )
    teacache_thresh: float = option(
        "of --use_teacache: how much may be left out; 0.2 to 0.5, more is faster and coarser",
        group="sampling",
        metavar="X",
        default=0.2,
        decides=True,
        least=0,
        of="use_teacache",
    )
    sample_model_every: int = model_every_option()
    sample_guide_every: int = guide_every_option()
    sample_window: tuple[float, ...] = sample_window_option()
    base_seed: int = seed_option()

    def __post_init__(self):
        check_prompts(self, "prompt", "negative_prompt")
        check_bounds(self)
        if self.motion_frame is not None:
            self.motion_frames("multitalk")
        check_audio_window(self)
        check_sample_window(self)
        for name in ("sample_model_every", "sample_guide_every"):
            if self.use_teacache and getattr(self, name) > 1:
                raise UserError(f"{getattr(self, name)}: leave it 1 beside --use_teacache", field=name)
        if self.scene_seg and self.source_frames == "upstream":
            raise UserError("cuts by the video's clock; leave --source_frames exact", field="scene_seg")
        check_size(self)

    @property
    def is_720(self) -> bool:
        """Whether the sizes are those for which the shift and TeaCache have numbers of their own."""
        return self.size_bucket.endswith("-720")

    @property
    def shift(self) -> float:
        """`sample_shift`, or that of the sizes."""
        if self.sample_shift is not None:
            return self.sample_shift
        return 11.0 if self.is_720 else 7.0

    @property
    def text_guided(self) -> bool:
        """Whether the branch with the negative prompt runs too."""
        return not math.isclose(self.sample_text_guide_scale, 1.0)

    @property
    def branches(self) -> int:
        """Of guidance: everything; without the sound; without the words."""
        return 3 if self.text_guided else 1 if math.isclose(self.sample_audio_guide_scale, 1.0) else 2

    def motion_frames(self, recipe: Recipe) -> int:
        """`motion_frame`, or that of the weights' recipe.

        Raises:
          UserError: a clip has no frames besides.
        """
        found = _MOTION_FRAMES[recipe] if self.motion_frame is None else self.motion_frame
        if found >= self.frame_num:
            raise UserError(
                f"{found}: give fewer than --frame_num {self.frame_num}",
                field="motion_frame",
            )
        return found


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """What a sample of a video is made of, when it is prepared for training."""

    motion_frame: int | None = option(
        "first frames of a window that are taken over from the clip before, 1 more than a multiple of 4 (default: 25, "
        "or 9 of InfiniteTalk)",
        group="input",
        metavar="N",
        default=None,
        least=1,
    )
    first_clip_prob: float = option(
        "probability that a window is taken for a video's first clip, of which one picture is known",
        group="input",
        metavar="X",
        default=0.25,
        least=0,
        most=1,
    )
    speakers: int = option(
        "most people of a sample; above 1 each needs a sound and a box in the metadata",
        group="input",
        metavar="N",
        default=1,
        least=1,
    )

    def __post_init__(self):
        check_bounds(self)

    def motion_frames(self, recipe: Recipe) -> int:
        """`motion_frame`, or that of the weights' recipe."""
        return _MOTION_FRAMES[recipe] if self.motion_frame is None else self.motion_frame


@dataclasses.dataclass(frozen=True)
class TrainingSettings(WindowSettings):
    """How the model is trained. The original publishes no trainer; this is ours."""

    text_dropout_prob: float = option(
        "probability that the caption of a sample is left out, but not its sounds",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    audio_dropout_prob: float = option(
        "probability that the sounds of a sample are left out, but not its caption",
        group="loss",
        metavar="X",
        default=0.1,
        least=0,
        most=1,
    )
    both_dropout_prob: float = option(
        "probability that caption and sounds of a sample are left out",
        group="loss",
        metavar="X",
        default=0.05,
        least=0,
        most=1,
    )
    logit_normal: tuple[float, ...] = logit_normal_option()
    timestep_shift: float = timestep_shift_option()
    temporal_loss: float = temporal_loss_option()

    def __post_init__(self):
        super().__post_init__()
        names = ("text_dropout_prob", "audio_dropout_prob", "both_dropout_prob")
        if (total := sum(getattr(self, name) for name in names)) > 1:
            raise UserError(
                f"{self.both_dropout_prob}: with --text_dropout_prob and --audio_dropout_prob it makes {total:g}; "
                "together give 1 or less",
                field="both_dropout_prob",
            )
        check_logit_normal(self)

    @property
    def raised_rate(self) -> float:
        """Times the base rate: no parameters have a raised one."""
        return 1.0


def check_frames(settings: Settings | WindowSettings, config: MultiTalkConfig) -> None:
    """Make sure that clips, and what they take over, are one frame and whole latent frames behind it.

    Raises:
      UserError: they are not.
    """
    stride = config.time_stride
    lengths = {"motion_frame": settings.motion_frames(config.recipe)}
    if isinstance(settings, Settings):
        lengths["frame_num"] = settings.frame_num
    for name, frames in lengths.items():
        if (frames - 1) % stride:
            near = 1 + max(1, frames // stride) * stride
            raise UserError(f"{frames}: give 1 more than a multiple of {stride}, such as {near}", field=name)


@dataclasses.dataclass(frozen=True)
class Sources:
    """The published files, for the conversion."""

    ckpt_dir: str | None = option(
        "the folder of Wan-AI/Wan2.1-I2V-14B-480P, as Wan or diffusers publishes it (dit, vae, text, clip)",
        group="from",
        metavar="DIR",
        default=None,
    )
    multitalk_dir: str | None = option(
        "the folder of MeiGen-AI/MeiGen-MultiTalk, or its file multitalk.safetensors (dit)",
        group="from",
        metavar="DIR",
        default=None,
    )
    infinitetalk_dir: str | None = option(
        "instead, a file of MeiGen-AI/InfiniteTalk, such as single/infinitetalk.safetensors, or its folder (dit)",
        group="from",
        metavar="DIR",
        default=None,
    )
    quant_file: str | None = option(
        "one quantised file of the whole transformer, int8 or fp8, with its map beside it (dit)",
        group="from",
        metavar="FILE",
        default=None,
    )
    dit_file: str | None = option(
        "one file to take the base model from instead: safetensors, GGUF or a pickle, alone or among others (dit)",
        group="from",
        metavar="FILE",
        default=None,
    )
    vae_file: str | None = vae_file_option()
    tiny_decoder: str | None = tiny_decoder_file_option("taew2_1")
    text_file: str | None = text_file_option()
    lora_ckpt: tuple[str, ...] = option(
        "LoRA files of any dialect to be added, such as FusionX or lightx2v (dit)",
        group="from",
        metavar="FILE",
        default=(),
    )
    wav2vec_dir: str | None = option(
        "the folder of TencentGameMate/chinese-wav2vec2-base (audio; default: the folder of that name in --ckpt_dir)",
        group="from",
        metavar="DIR",
        default=None,
    )
