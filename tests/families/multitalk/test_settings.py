"""What a person may set: sizes, defaults by recipe and size, and what is refused."""

import contextlib
import dataclasses
import subprocess
import sys

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build, describe
from talkverse_jax.families.multitalk import settings
from talkverse_jax.families.multitalk.boxes import Box, parse
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.settings import (
    Files,
    Settings,
    TrainingSettings,
    WindowSettings,
    check_frames,
)
from talkverse_jax.media.buckets import BUCKETS, choose, sizes
from talkverse_jax.training.options import train_groups
from talkverse_jax.training.prepare_options import prepare_groups

# The published tables: H/W -> HxW.
PUBLISHED = {
    "multitalk-480": "0.26:320x1216, 0.38:384x1024, 0.50:448x896, 0.67:512x768, 0.82:576x704, 1.00:640x640, "
    "1.22:704x576, 1.50:768x512, 1.86:832x448, 2.00:896x448, 2.50:960x384, 2.83:1088x384, 3.60:1152x320, "
    "3.80:1216x320, 4.00:1280x320",
    "multitalk-720": "0.22:448x2048, 0.29:512x1792, 0.36:576x1600, 0.45:640x1408, 0.55:704x1280, 0.63:768x1216, "
    "0.76:832x1088, 0.88:896x1024, 1.00:960x960, 1.14:1024x896, 1.31:1088x832, 1.50:1152x768, 1.58:1216x768, "
    "1.82:1280x704, 1.91:1344x704, 2.20:1408x640, 2.30:1472x640, 2.67:1536x576, 2.89:1664x576, 3.62:1856x512, "
    "3.75:1920x512",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones_in_their_order(name):
    rows = [row.split(":") for row in PUBLISHED[name].split(", ")]
    assert list(BUCKETS[name].items()) == [(float(key), tuple(map(int, size.split("x")))) for key, size in rows]
    assert choose("multitalk-480", 1440, 2560) == (448, 896)
    assert sizes("multitalk-720")[0] == (960, 960)


def test_it_imports_no_jax_and_joins_the_options_of_every_command():
    code = "import sys; from talkverse_jax.families.multitalk import settings; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for groups in (train_groups(settings), prepare_groups(settings)):
        assert "motion_frame" in [each.name for each in describe(groups)]


@pytest.mark.parametrize(
    "given, shift, frames",
    [
        ({}, 7.0, (25, 9)),
        ({"size_bucket": "multitalk-720"}, 11.0, (25, 9)),
        ({"size_bucket": "multitalk-720", "sample_shift": 2.0, "motion_frame": 13}, 2.0, (13, 13)),
    ],
)
def test_defaults_by_size_and_by_recipe(given, shift, frames):
    made = Settings("", **given)
    assert made.shift == shift
    assert (made.motion_frames("multitalk"), made.motion_frames("infinitetalk")) == frames


def test_a_short_clip_needs_fewer_motion_frames():
    short = Settings("", frame_num=17)
    assert short.motion_frames("infinitetalk") == 9
    with pytest.raises(UserError, match="--motion_frame 25: give fewer than --frame_num 17"):
        short.motion_frames("multitalk")


def test_prompts_are_followed_unless_their_scale_is_one():
    assert Settings("").text_guided and Settings("", sample_text_guide_scale=0.0).text_guided
    assert not Settings("", sample_text_guide_scale=1.0).text_guided
    assert Settings("", sample_text_guide_scale=1.0).branches == 2
    assert Settings("", sample_text_guide_scale=1.0, sample_audio_guide_scale=1.0).branches == 1


@pytest.mark.parametrize(
    "given, message",
    [
        ({"motion_frame": 81}, "--motion_frame 81: give fewer than --frame_num 81"),
        ({"max_frames": 0}, "--max_frames 0: give 1 or more"),
        ({"seconds": 0.0}, "--seconds 0.0: give a number above 0"),
        ({"size": "640x480"}, "--size 640x480: there are 640x640, "),
        ({"color_correction_strength": 1.1}, "--color_correction_strength 1.1: give a number from 0 to 1"),
        ({"sample_shift": 0.0}, "--sample_shift 0.0: give a number above 0"),
        ({"sample_steps": 0}, "--sample_steps 0: give 1 or more"),
        ({"teacache_thresh": -0.1}, "--teacache_thresh -0.1: give 0 or more"),
        ({"use_teacache": True, "sample_model_every": 2}, "--sample_model_every 2: leave it 1 beside --use_teacache"),
        ({"use_teacache": True, "sample_guide_every": 3}, "--sample_guide_every 3: leave it 1 beside --use_teacache"),
        ({"sample_window": (0.5, 0.2)}, "--sample_window 0.5 0.2: give two shares"),
        ({"apg_momentum": float("nan")}, "--apg_momentum nan: give a number"),
        (
            {"scene_seg": True, "source_frames": "upstream"},
            "--scene_seg cuts by the video's clock; leave",
        ),
        ({"audio_window": 10}, "--audio_window 10: give 30 seconds or more, or 0 for one pass"),
        ({"base_seed": -2}, "--base_seed -2: give a number from -1 to 4294967295"),
        ({"prompt": "a" * 10_001}, "--prompt has 10,001 characters"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, message):
    with pytest.raises(UserError) as error:
        Settings(**{"prompt": ""} | given)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(audio=("none", "none")), "--audio nobody speaks; give at least one sound"),
        (dict(audio=()), "--audio nobody speaks"),
        (dict(bbox=("0,0,4,4",)), "--bbox 1 given, but --audio names 2; give one for each person"),
        (dict(mask=("a.png",) * 3), "--mask 3 given, but --audio names 2"),
        (dict(bbox=("0,0,4,4", "none")), "--bbox person 2 has neither box nor mask; give one"),
        (dict(bbox=("0,0,4,4", "none"), mask=("none", "none")), "--bbox person 2 has neither box nor mask"),
        (dict(bbox=("0,0,4,4",) * 2, mask=("none", "a.png")), "--mask person 2 has a box and a mask"),
        (dict(bbox=("0,0,4", "0,4,4,8")), "--bbox '0,0,4': give top,left,bottom,right in pixels"),
        (dict(bbox=("4,0,4,4", "0,4,4,8")), "--bbox 4,0,4,4: is empty"),
    ],
)
def test_everybody_has_one_place(given, message):
    with pytest.raises(UserError) as error:
        Files("a.png", **{"audio": ("a.wav", "b.wav")} | given)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_boxes_and_masks_side_by_side():
    files = Files("a.png", ("a.wav", "none"), bbox=("none", " 1, 2,3 ,4"), mask=("a.png", "none"))
    assert files.people == 2 and parse(files.bbox[1]) == Box(1, 2, 3, 4)


def test_one_person_s_options_are_built_from_one_sound():
    values = settings.of_person("a.png", "a.wav", "talks")
    made = build({"files": Files, "settings": Settings}, values, "here")
    assert made == {"files": Files("a.png", ("a.wav",)), "settings": Settings("talks")}


def test_training_leaves_out_a_share_of_each():
    assert TrainingSettings().raised_rate == 1.0
    with pytest.raises(UserError, match="--both_dropout_prob 0.5: with .* it makes 1.1; together give 1 or less"):
        TrainingSettings(text_dropout_prob=0.3, audio_dropout_prob=0.3, both_dropout_prob=0.5)
    with pytest.raises(UserError, match="--logit_normal 0: give a mean and a deviation"):
        TrainingSettings(logit_normal=(0,))


@pytest.mark.parametrize(
    "given, stride, message",
    [
        ({"frame_num": 80}, 4, "--frame_num 80: give 1 more than a multiple of 4, such as 81"),
        ({"motion_frame": 26}, 4, "--motion_frame 26: give 1 more than a multiple of 4, such as 25"),
        ({"frame_num": 77}, 8, "--frame_num 77: give 1 more than a multiple of 8, such as 73"),
        ({"frame_num": 7, "motion_frame": 1}, 8, "--frame_num 7: give 1 more than a multiple of 8, such as 9"),
        ({}, 4, ""),
        ({"frame_num": 80, "motion_frame": 26}, 1, ""),
    ],
)
def test_clips_are_whole_latent_frames(given, stride, message):
    config = dataclasses.replace(MultiTalkConfig.multitalk_14b(), time_stride=stride)
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        check_frames(Settings("", **given), config)
    window = {name: value for name, value in given.items() if name == "motion_frame"}
    with pytest.raises(UserError, match=message) if "motion" in message[:10] else contextlib.nullcontext():
        check_frames(WindowSettings(**window), config)
