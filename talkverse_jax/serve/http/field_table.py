"""The fields of a request for a video: their names, types and ranges. What a model makes of them is an option of its
family; choices and defaults come from that."""

from dataclasses import dataclass
from typing import Literal

FieldKind = Literal["string", "integer", "number", "boolean", "seconds", "reference", "object"]

LONGEST_PROMPT = 32_000  # characters
LONGEST_SPEECH = 4096
ONLY_PICTURES, ONLY_VIDEOS = "image_reference", "video_reference"  # names of `input_reference`


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes:
      kind: of its value; "seconds" is a number, or a text of one.
      aliases: other names.
      setting: whether it is an option of the model's `Settings` and nothing else; its family says which
        (`pipeline.request`).
      least, most: of a number; `above` is below all that may be given. Of a string, characters. A setting without any
        has those of its option.
      multiple: of what a number is one.
    """

    name: str
    kind: FieldKind
    aliases: tuple[str, ...] = ()
    setting: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    multiple: int | None = None


# In the order in which values are checked.
FIELDS = (
    Field("prompt", "string", setting=True, least=1, most=LONGEST_PROMPT),
    Field("model", "string", least=1),
    Field("input_reference", "reference", aliases=(ONLY_PICTURES, ONLY_VIDEOS, "reference_url")),
    Field("audio_reference", "reference"),
    Field("tts_text", "string", least=1, most=LONGEST_SPEECH),
    Field("tts_voice", "string", least=1, most=256),
    Field("tts_speed", "number", least=0.25, most=4),
    Field("speakers", "object"),
    Field("audio_reference_2", "reference"),
    Field("audio_type", "string", setting=True),
    Field("bbox", "object"),
    Field("tts_voice_2", "string", least=1, most=256),
    Field("seconds", "seconds", above=0),
    Field("num_frames", "integer", least=1),
    Field("num_clip", "integer", setting=True),
    Field("fps", "number", least=25, most=25),
    Field("size", "string"),
    Field("width", "integer", least=1),
    Field("height", "integer", least=1),
    Field("size_bucket", "string", setting=True),
    Field("num_inference_steps", "integer", ("sample_steps",), True, least=1, most=200),
    Field(
        "guidance_scale",
        "number",
        ("sample_guide_scale",),
        True,
        least=0,
        most=20,
    ),
    Field("audio_guidance_scale", "number", setting=True, least=0, most=20),
    Field("flow_shift", "number", ("sample_shift",), True, above=0, most=100),
    Field("sample_solver", "string", setting=True),
    Field("seed", "integer", ("base_seed",), least=-1, most=2**32 - 1),
    Field("negative_prompt", "string", setting=True, least=0, most=LONGEST_PROMPT),
    Field("infer_frames", "integer", setting=True, least=4, most=240, multiple=4),
    Field("motion_frames", "integer", setting=True),
    Field("init_first_frame", "boolean", setting=True),
    Field("head_trim_frames", "integer", setting=True),
    Field("audio_alignment", "string", setting=True),
    Field("dubbing_noise_strength", "number", setting=True),
    Field("video_end", "string", setting=True),
    Field("use_prompt_extend", "boolean"),
    Field("user", "string", least=0, most=256),
)

# What other servers of this API know, and no model here has.
OF_OTHERS = {
    "guidance_scale_2",
    "boundary_ratio",
    "true_cfg_scale",
    "generate_sound",
    "sound_duration",
    "enable_frame_interpolation",
    "lora",
    "extra_params",
    "enable_teacache",
    "generator_device",
    "extra_body",
}
OF_OTHERS_BEGIN = "frame_interpolation_"

OF_TWO_SPEAKERS = ("audio_reference_2", "audio_type", "bbox", "tts_voice_2")
OF_SPEECH = ("tts_text", "tts_voice", "tts_speed", "tts_voice_2")
OF_DUBBING = ("dubbing_noise_strength", "video_end")

JSON_TYPES = {"seconds": "number", "reference": "object"}
