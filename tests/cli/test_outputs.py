"""No command writes over what it reads."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.cli import main
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.video_writer import VideoWriter
from tests.processes import ROOT
from tests.run.drawn import WEIGHTS


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of what commands read, which is the current one."""
    monkeypatch.chdir(tmp_path)
    sound = np.zeros((48000, 1), np.float32)
    with VideoWriter("evaluation.mp4", width=64, height=64, sound=[sound], rate=48000) as writer:
        writer.write(np.zeros((25, 64, 64, 3), np.uint8))
    Path("evaluation.json").write_text("{}")
    os.link("evaluation.mp4", "sheet.png")
    for folder in ("pictures", "sounds", "weights", "out/videos"):
        Path(folder).mkdir(parents=True)
    shutil.copyfile("evaluation.mp4", "out/videos/ann.mp4")
    shutil.copyfile(ROOT / "assets/face.png", "out/videos/ann.png")
    Path("set.csv").write_text("video_path,caption\nout/videos/ann.mp4,Ann talks.\n")
    shutil.copyfile(ROOT / "assets/face.png", "pictures/ann.png")
    shutil.copyfile(ROOT / "assets/face.png", "evaluation.png")
    shutil.copyfile(ROOT / "assets/speech.flac", "sounds/ann.flac")
    Path("pictures/ann.txt").write_text("Ann talks.")
    Path("run.toml").write_text("sample_steps = 2\n")
    Path("trained.safetensors").symlink_to("weights/lora.safetensors")
    Path("weights/lora.safetensors").write_bytes(b"x")
    Path("weights/manifest.json").write_text('{"name": "an app"}')
    Path("speech.mp4").symlink_to("sounds/ann.flac")
    return tmp_path


SAMPLE = f"sample --weights {WEIGHTS} --image pictures/ann.png --audio sounds/ann.flac --prompt x --output"
LISTS = "list-batch --pictures pictures --sounds sounds --output"
DUMP = "dump-original --repo . --out"
COMMANDS = {
    f"{SAMPLE} speech.mp4": "speech.mp4: is read too (--audio sounds/ann.flac); give another --output",
    "contact-sheet evaluation.mp4 sheet.png": "sheet.png: is read too (VIDEO evaluation.mp4); give another OUT.png",
    "evaluate evaluation.mp4 --output .": "evaluation.json: is read too (the record of a VIDEO evaluation.json); give",
    "evaluate sheet.png --reference evaluation.png --output .": "evaluation.png: is read too (--reference",
    f"evaluate --weights {WEIGHTS} --set set.csv --output out": "out/videos/ann.mp4: is read too (--audio",
    f"{LISTS} pictures/ann.txt": "pictures/ann.txt: is read too (the prompt pictures/ann.txt); give another --output",
    f"{LISTS} pictures/../sounds/ann.flac": "is read too (--sounds sounds/ann.flac); give another --output",
    "plan --topology H100-1 --config run.toml --json ./run.toml": "run.toml: is read too (--config run.toml); give",
    f"{DUMP} run.toml --ckpt_dir sounds --lora_ckpt run.toml": "run.toml: is read too (--lora_ckpt",
    f"{DUMP} trained.safetensors --ckpt_dir weights --lora_ckpt run.toml": "lora.safetensors: is read too (--ckpt_dir",
    "random-checkpoint --output weights": "weights: holds files, maybe real weights of these names; give a new folder",
    "convert --ckpt_dir weights --output weights": "manifest.json: is another program's; give another folder",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_read_stays(here, command):
    def all_files():
        return {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}

    before = all_files()
    with pytest.raises(UserError) as error:
        main.run(command.split())
    assert COMMANDS[command] in str(error.value) and "\n" not in str(error.value)
    assert all_files() == before


def test_a_component_is_not_converted_from_where_it_goes(tiny_checkpoint, tmp_path):
    config = ROOT / "configs/model_tiny.toml"
    for name in ("vae", "vae.old", "vae.partial"):
        source = tmp_path / name / "source"
        shutil.copytree(tiny_checkpoint["ckpt_dir"], source)
        flags = ["--ckpt_dir", source, "--components", "vae,text", "--config", config, "--output", tmp_path]
        with pytest.raises(UserError, match=rf"lies in {tmp_path / name}, which the converted component replaces"):
            main.run(["convert", *map(str, flags)])
        assert len(list(source.iterdir())) == len(list(tiny_checkpoint["ckpt_dir"].iterdir()))


def test_links_under_unfinished_names_are_not_followed(here):
    for name in ("page.png.partial", "out/evaluation.json.partial", "out/evaluation.png.partial"):
        (here / name).symlink_to(here / "run.toml")
    main.run(["contact-sheet", "evaluation.mp4", "page.png"])
    main.run(["evaluate", "evaluation.mp4", "--output", "out"])
    assert Path("run.toml").read_text() == "sample_steps = 2\n"
    assert Path("page.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir("out")) == ["evaluation.json", "evaluation.png", "videos"]
