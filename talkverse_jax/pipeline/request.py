"""What a family makes of a request over HTTP (docs/serving.md), as its module `settings` says it in `REQUEST`. Imports
no JAX.

    module = registry.settings_of(name)
    module.REQUEST.option("guidance_scale")                    # which of `Settings` the field is
    module.REQUEST.files("face.png", [SpeakerFiles("ann.wav")])      # `Files` by option

A field has the option of its own name unless `names` has another; a model lacks a field whose option is none of its
`Settings`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NAMES = {
    "num_inference_steps": "sample_steps",
    "guidance_scale": "sample_guide_scale",
    "flow_shift": "sample_shift",
    "seed": "base_seed",
}


@dataclasses.dataclass(frozen=True)
class SpeakerFiles:
    """Who is in the picture: an entry of `speakers`, or what `audio_reference`, `audio_reference_2` and `bbox` say.

    Attributes:
      sound: the file of what is said; None of one who says nothing.
      mask: the file of a picture that is white where the person is.
      bbox: instead, `TOP,LEFT,BOTTOM,RIGHT` in pixels of the picture.
    """

    sound: str | None
    mask: str | None = None
    bbox: str | None = None


@dataclasses.dataclass(frozen=True)
class RequestTable:
    """What a family makes of a request.

    Attributes:
      files: (picture or video, people in their order) -> the options of the family's `Files`; no people where a video
        to dub has its own sound.
      own_names: options of fields that are called otherwise here than in other families.
      takes_video: whether a video can be given in place of the picture, of the folder of the weights. Imports no JAX.
      most_people: the option that limits them; None where there can be one only.
      people: how many the weights know, of their folder: the limit where that option is not given. Imports no JAX.
      motion_frames: frames of the clip before that a clip sees, where no option says it.
    """

    files: Callable[[str, Sequence[SpeakerFiles]], dict[str, Any]]
    takes_video: Callable[[str], bool] = lambda weights: False
    own_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    most_people: str | None = None
    people: Callable[[str], int] = lambda weights: 1
    motion_frames: int | None = None

    def option(self, field: str) -> str:
        """The name of a field's option, should the family have it."""
        return self.own_names.get(field) or _NAMES.get(field, field)
