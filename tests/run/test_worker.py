"""sample.py on a tiny random checkpoint: what it writes, and one line for whatever it cannot use."""

import dataclasses
import io
import json
import math
import shutil
import threading
from contextlib import redirect_stderr
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from safetensors.numpy import save_file

import sample
from talkverse_jax.cli.command import run_command
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.diffusion.denoise import denoising_step
from talkverse_jax.families.talkverse.clips import ClipMaker
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.pipeline import TalkVersePipeline
from talkverse_jax.run.video import write_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(tiny_weights, tmp_path):
    """The flags of a small working run: two clips of 8 frames, two steps."""
    return _arguments(tiny_weights, tmp_path)


def _arguments(weights: Path, folder: Path) -> dict:
    return {
        "weights": weights,
        "image": ROOT / "assets/face.png",
        "audio": ROOT / "assets/speech.flac",
        "prompt": "A woman talks.",
        "negative_prompt": "blurred",
        "output": folder / "talk.mp4",
        "size_bucket": "tiny-128",
        "infer_frames": 8,
        "num_clip": 2,
        "sample_steps": 2,
        "base_seed": 3,
        "dtype": "float32",
    }


def run(arguments: dict) -> None:
    """Call sample.py with these flags in this process, exit code and all."""
    argv = []
    for name, value in arguments.items():
        argv += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    run_command(lambda: sample.main(argv))


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def made(tiny_weights, tmp_path_factory):
    """What a run with `arguments` writes: the video's path and what was said. Do not change it."""
    flags = _arguments(tiny_weights, tmp_path_factory.mktemp("made"))
    with redirect_stderr(io.StringIO()) as said:
        run(flags)
    return flags["output"], said.getvalue()


def test_a_clip_is_written_while_the_next_one_is_made(arguments, made, monkeypatch):
    begun, second, advance = [], threading.Event(), TalkVersePipeline.advance

    def advancing(self, states, events):
        begun.append(states[0].clip)
        if len(begun) == 2:
            second.set()
        return advance(self, states, events)

    def writing(writer, clip, *rest):
        assert clip.index > 0 or second.wait(60), "the next clip was not begun"
        write_clip(writer, clip, *rest)

    monkeypatch.setattr(TalkVersePipeline, "advance", advancing)
    monkeypatch.setattr("talkverse_jax.run.video.write_clip", writing)
    run(arguments)
    assert begun == [0, 1] and np.array_equal(frames_of(arguments["output"]), frames_of(made[0]))


def test_a_video_with_its_sound_and_its_record(made):
    output, said = made
    frames = frames_of(output)
    assert frames.shape == (13, 128, 128, 3)  # 8 - 3 frames of the first clip, 8 of the second
    assert frames.std() > 10
    with av.open(str(output)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.average_rate == 25
        assert abs(float(audio.duration * audio.time_base) - 13 / 25) < 0.001
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["settings"]["base_seed"] == 3 and record["settings"]["sample_solver"] == "unipc"
    assert record["frames"] == 13 and record["clips"] == 2 and record["size"] == [128, 128]
    assert {"loading", "compiling", "encoding", "denoising", "decoding"} <= record["seconds"].keys()
    assert record["weights"]["dit"]["sources"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["talk.json", "talk.mp4"]
    assert "128x128, 13 frames (0.52 s) in 2 clips, seed 3" in said


def video(arguments, **changes):
    run(arguments | changes)
    return frames_of(arguments["output"]).astype(int)


@pytest.mark.slow
def test_the_seed_decides_the_video(arguments, made):
    whole = frames_of(made[0]).astype(int)
    np.testing.assert_array_equal(video(arguments), whole)
    np.testing.assert_array_equal(video(arguments, num_clip=1), whole[:5])
    part = video(arguments, num_clip=3, seconds=0.39)  # another encoding of the same pictures
    assert len(part) == 10 and np.abs(part - whole[:10]).mean() < 2


@pytest.mark.slow
def test_everything_else_changes_the_video(arguments):
    first = video(arguments, num_clip=1)
    changes = {
        "seed": {"base_seed": 4},
        "sound": {"audio": ROOT / "assets/speech_other.flac"},
        "prompt": {"prompt": "Nobody is there."},
        "negative": {"negative_prompt": "stillness"},
        "solver": {"sample_solver": "dpm++"},
        "euler": {"sample_solver": "euler"},
        "guidance": {"sample_guide_scale": 2},
        "upstream": {"audio_alignment": "upstream"},
    }
    for name, change in changes.items():
        assert np.abs(video(arguments, num_clip=1, **change) - first).mean() > 0.01, name


@pytest.mark.slow
def test_what_is_done_to_the_shape_is_said_and_recorded(arguments, tmp_path, capsys):
    """A picture of 230x200, which has no size of its own."""
    with Image.open(arguments["image"]) as face:
        face.resize((230, 200)).save(tmp_path / "face.png")
    black = "; black bars are 8.1% of the frame, --fit crop or exact leaves none"
    for fit, said in {"pad": black, "crop": " (cropped 7.9% of the height)"}.items():
        run(arguments | {"image": tmp_path / "face.png", "fit": fit, "num_clip": 1})
        line = f"{tmp_path / 'face.png'}: 230x200, made 160x128{said}"
        assert line in capsys.readouterr().err
        record = json.loads(arguments["output"].with_suffix(".json").read_text())
        assert record["notices"] == [line] and record["made_from"]["fit"] == fit and record["size"] == [128, 160]


def test_by_default_the_video_is_as_long_as_its_sound(arguments, tmp_path):
    speech, rate = soundfile.read(ROOT / "assets/speech.flac", frames=20_000)
    soundfile.write(tmp_path / "short.wav", speech, rate)
    del arguments["num_clip"]
    run(arguments | {"sample_steps": 1, "audio": tmp_path / "short.wav"})
    frames = math.ceil(25 * len(speech) / rate)
    record = json.loads(arguments["output"].with_suffix(".json").read_text())
    assert record["frames"] == len(frames_of(arguments["output"])) == frames
    assert record["clips"] == math.ceil((frames + 3) / 8) > 1


def test_trimmed_frames_go_with_their_sound(arguments, made):
    whole = frames_of(made[0]).astype(int)
    run(arguments | {"head_trim_frames": 6})
    trimmed = frames_of(arguments["output"]).astype(int)
    assert len(trimmed) == 13 - 6
    # encoded anew, but the same pictures
    assert np.abs(trimmed - whole[6:]).mean() < 0.5 * np.abs(trimmed - whole[:7]).mean()
    with av.open(str(arguments["output"])) as container:
        audio = container.streams.audio[0]
        assert abs(float(audio.duration * audio.time_base) - 7 / 25) < 0.001


def test_starting_from_the_picture_shows_all_frames(arguments):
    run(arguments | {"init_first_frame": "true"})
    assert len(frames_of(arguments["output"])) == 16


def test_the_presets_for_small_cards_change_no_number(arguments, made):
    run(arguments | {"offload_model": "true", "t5_cpu": "true"})
    np.testing.assert_array_equal(frames_of(arguments["output"]), frames_of(made[0]))


@pytest.mark.slow
def test_two_programs_serve_all_steps_and_clips_and_the_next_run(arguments, made):
    programs = denoising_step.jitted()
    programs.clear_cache()
    run(arguments | {"num_clip": 3, "sample_steps": 3, "sample_guide_scale": 1})
    assert programs._cache_size() == 2  # with and without motion tokens
    assert np.abs(frames_of(arguments["output"])[:5].astype(int) - frames_of(made[0])[:5]).mean() > 0.01
    run(arguments | {"base_seed": 8, "sample_solver": "euler", "sample_guide_scale": 1})
    assert programs._cache_size() == 2


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory):
    """A DiT of the same size with other numbers, as published: its paths by flag."""
    configs = FAMILY.configs_from_toml(ROOT / "configs/model_tiny.toml")
    return write_random_checkpoint(FAMILY, tmp_path_factory.mktemp("other"), configs, seed=7, components=("dit",))


def test_a_trained_file_is_laid_over_the_weights(arguments, made, other_checkpoint):
    def video(**changes):
        run(arguments | {"num_clip": 1, "lora_ckpt": other_checkpoint["lora_ckpt"]} | changes)
        return frames_of(arguments["output"]).astype(int)

    strong, weak = video(), video(lora_alpha=1)
    assert np.abs(strong - frames_of(made[0])[:5]).mean() > 0.01  # its tensors
    assert np.abs(weak - strong).mean() > 0.01  # its pairs
    video(lora_ckpt=[other_checkpoint["lora_ckpt"], _style(arguments["output"])], lora_strength=[1, 0.5])
    record = json.loads(arguments["output"].with_suffix(".json").read_text())
    assert record["settings"]["lora_strength"] == record["made_from"]["lora_strength"] == [1.0, 0.5]
    assert len(record["made_from"]["lora_ckpt's file"]) == 2
    style = "style.safetensors: strength 0.5: 1 LoRA pairs of rank 4, which count 0.25 times (its .alpha tensors;"
    assert any(line.startswith(style) for line in record["notices"])


def _style(output: Path) -> Path:
    """A file of another program, with an alpha of half its rank."""
    path = output.with_name("style.safetensors")
    name, alpha = "lora_unet_blocks_0_self_attn_v", np.float32(2)
    tensors = {f"{name}.lora_down.weight": np.ones((4, 96), np.float32), f"{name}.alpha": alpha.reshape(1)}
    save_file(tensors | {f"{name}.lora_up.weight": np.ones((96, 4), np.float32)}, path)
    return path


def _shard(paths: dict) -> Path:
    return min(paths["ckpt_dir"].glob("*.safetensors"))


@pytest.mark.parametrize(
    "file, flags, message",
    [
        (lambda ours, other: ours["lora_ckpt"], {}, "was converted from it, so it is in there; leave it out"),
        (lambda ours, other: ours["lora_ckpt"], {"lora_alpha": 0}, "was converted from it"),
        (lambda ours, other: _shard(ours), {}, "was converted from it"),
        (lambda ours, other: _shard(other), {}, "has no LoRA pairs and no tensor that the base model lacks"),
        (
            lambda ours, other: other["lora_ckpt"],
            {"lora_rank": 4},
            "has pairs of rank 128 (blocks.0.cross_attn.k); leave it out",
        ),
        (lambda ours, other: ours["wav2vec_dir"] / "model.safetensors", {}, "has no place in dit"),
    ],
    ids=["the same", "whatever its alpha", "a shard", "another's shard", "another rank", "another model"],
)
def test_a_file_that_would_count_twice_or_does_not_fit_is_refused_before_any_work(
    arguments, tiny_checkpoint, other_checkpoint, tmp_path, capsys, monkeypatch, file, flags, message
):
    def never(*_):
        raise AssertionError("encoders were run")

    monkeypatch.setattr(TalkVersePipeline, "encode", never)
    copy = tmp_path / "given.safetensors"  # known by its content, not its name
    shutil.copy(file(tiny_checkpoint, other_checkpoint), copy)
    with pytest.raises(SystemExit) as stop:
        run(arguments | {"lora_ckpt": copy} | flags)
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith("error: ") and str(copy) in line and message in line


@pytest.mark.parametrize("where", ["latents", "frames"])
def test_values_that_are_no_numbers_are_not_written(arguments, capsys, monkeypatch, where):
    """The clips before stay in the partial file, which plays."""
    advance = ClipMaker.advance

    def damaged(*args):
        for place, clip, state in advance(*args):
            bad = np.array(getattr(clip, where))
            bad.reshape(-1)[-1] = np.inf if where == "latents" else np.nan
            yield place, dataclasses.replace(clip, **{where: bad}) if clip.index else clip, state

    monkeypatch.setattr(ClipMaker, "advance", damaged)
    arguments["output"].write_bytes(b"an older video")
    with pytest.raises(SystemExit) as stop:
        run(arguments | {"sample_steps": 1})
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert "error: clip 2: came out as values that are no numbers (the 5 frames before it are in talk." in line
    assert "try " not in line and "delete" in line  # --dtype is float32 already
    assert len(frames_of(arguments["output"].with_name("talk.partial.mp4"))) == 5
    assert arguments["output"].read_bytes() == b"an older video"


def test_a_prompt_may_be_empty_and_a_long_one_is_cut_aloud(arguments, capsys):
    run(arguments | {"prompt": "", "negative_prompt": "", "num_clip": 1, "sample_steps": 1})
    assert arguments["output"].is_file()
    run(arguments | {"prompt": "word " * 400, "num_clip": 1, "sample_steps": 1})
    assert "prompt: " in (err := capsys.readouterr().err) and "tokens, cut to" in err
    record = json.loads(arguments["output"].with_suffix(".json").read_text())
    assert any("cut to" in notice for notice in record["notices"])


BAD = {
    "missing picture": ({"image": "nobody.png"}, "nobody.png: no such file"),
    "missing sound": ({"audio": "nothing.wav"}, "nothing.wav: no such file"),
    "picture as sound": ({"audio": ROOT / "assets/face.png"}, "face.png: "),
    "sound as picture": ({"image": ROOT / "assets/speech.flac"}, "speech.flac: not a picture"),
    "odd frames": ({"infer_frames": 10}, "--infer_frames 10: a latent frame holds 4 frames"),
    "unknown bucket": ({"size_bucket": "tiny-129"}, "--size_bucket tiny-129: no such bucket; did you mean tiny"),
    "no clips": ({"num_clip": 0}, "--num_clip 0"),
    "no steps": ({"sample_steps": 0}, "--sample_steps 0"),
    "bad seed": ({"base_seed": -2}, "--base_seed -2"),
    "bad shift": ({"sample_shift": 0}, "--sample_shift 0"),
    "too much trim": ({"head_trim_frames": 500}, "--head_trim_frames 500: the video has 13 frames"),
    "not an mp4": ({"output": "talk.avi"}, "talk.avi: the video is written as mp4"),
    "unknown solver": ({"sample_solver": "heun"}, "--sample_solver heun: give unipc"),
    "unknown flag": ({"promt": "x"}, "--promt"),
    "no weights": ({"weights": "nowhere"}, "nowhere: no such folder"),
    "name too long": ({"image": "x" * 300}, "no such file"),
    "no such user": ({"audio": "~nobody-of-that-name/a.wav"}, "no such user"),
    "no number": ({"sample_shift": "nan"}, "--sample_shift nan"),
    "folder as lora": ({"lora_ckpt": ROOT}, ": is a folder; give the path of a .safetensors file"),
    "file as weights": ({"weights": ROOT / "LICENSE"}, "LICENSE: is a file; give the folder of converted weights"),
    "nothing": ({"output": ""}, "--output is empty; give a path"),
    "no lora": ({"lora_ckpt": "nothing.safetensors"}, "nothing.safetensors: no such file"),
    "no axis": ({"mesh": "dta=2"}, "--mesh 'dta=2' is no axis=size"),
    "too many branches": ({"mesh": "data=4,context=-1"}, "a video has 2 branches to split; give data=2 at most"),
    "too few heads": ({"mesh": "tensor=4,context=-1"}, "tensor=4 does not divide 2 heads"),
    "no tpu": ({"attention": "splash"}, "--attention splash: it runs on TPUs, not on a cpu; choose auto or xla"),
}


@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_an_older_video_alone(arguments, capsys, change, message):
    arguments["output"].write_bytes(b"an older video")
    with pytest.raises(SystemExit) as stop:
        run(arguments | change)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and lines[-1].startswith("error: ")
    assert "Traceback" not in "".join(lines)
    assert arguments["output"].read_bytes() == b"an older video"
    assert [path.name for path in arguments["output"].parent.iterdir()] == ["talk.mp4"]


def _damaged(tiny_weights, tmp_path, damage) -> Path:
    copy = tmp_path / "weights"
    shutil.copytree(tiny_weights, copy)
    damage(copy)
    return copy


def _other_config(folder: Path) -> None:
    path = folder / "text" / "config.json"
    path.write_text(path.read_text().replace('"dim": 64', '"dim": 32'))


def _other_size(folder: Path) -> None:
    """In weights of an older version, which have no checksums."""
    _other_config(folder)
    (folder / "text" / "checksums").unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "manifest.json").unlink(), "not converted weights"),
        (lambda folder: shutil.rmtree(folder / "vae"), "talkverse-jax convert"),
        (lambda folder: shutil.rmtree(folder / "audio" / "parameters"), "damaged"),
        (_other_config, "config.json: not as it was written"),
        (_other_size, "text width"),
        (lambda folder: (folder / "text/tokenizer/tokenizer.json").unlink(), "tokenizer.json: no such file"),
    ],
    ids=["no manifest", "a component gone", "parameters gone", "another config", "another size", "no tokenizer"],
)
def test_damaged_weights_are_one_line(arguments, tiny_weights, tmp_path, capsys, damage, message):
    with pytest.raises(SystemExit) as stop:
        run(arguments | {"weights": _damaged(tiny_weights, tmp_path, damage)})
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_a_record_that_is_not_ours_is_left_alone(arguments, capsys):
    other = arguments["output"].with_suffix(".json")
    other.write_text('["a list of somebody else"]')
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2 and "talk.json: stands where" in capsys.readouterr().err
    assert other.read_text() == '["a list of somebody else"]'
    other.unlink()
    other.mkdir()
    with pytest.raises(SystemExit):
        run(arguments)
    assert "talk.json: stands where" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_leaves_an_older_video_alone(arguments, capsys, monkeypatch):
    from talkverse_jax.media.video_writer import VideoWriter

    def full(self, frames):
        with self._user_errors():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "write", full)
    arguments["output"].write_bytes(b"an older video")
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    assert "No space left on device" in capsys.readouterr().err.strip().splitlines()[-1]
    assert arguments["output"].read_bytes() == b"an older video"


def test_configs_are_read_and_flags_win(arguments, tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text('sample_steps = 1\nnum_clip = 1\nsize_bucket = "tiny-128"\n')
    del arguments["sample_steps"], arguments["num_clip"]
    run({"config": config} | arguments | {"base_seed": 9})
    record = json.loads(arguments["output"].with_suffix(".json").read_text())
    assert record["settings"]["sample_steps"] == 1 and record["settings"]["base_seed"] == 9
    config.write_text("sample_stepps = 1\n")
    with pytest.raises(SystemExit):
        run({"config": config} | arguments)
    assert "unknown key 'sample_stepps'; did you mean 'sample_steps'?" in capsys.readouterr().err
