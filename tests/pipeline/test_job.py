"""What decides a video, and what an older program noted of it."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest

from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.job import Job, digest
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.weights import manifest

BEFORE = Path(__file__).parent.parent / "fixtures" / "before"
RECORD = json.loads((BEFORE / "batch/out/video-0.json").read_text())["made_from"]


def job(**weights) -> Job:
    """The job of `RECORD`, with other options of its weights."""
    module = registry.settings_of("talkverse")
    made = {field.name: RECORD[field.name] for field in dataclasses.fields(module.Settings) if field.name in RECORD}
    files = module.Files(str(BEFORE / "batch/face.png"), str(BEFORE / "batch/speech-0.flac"))
    machine = Machine(dtype="float32")
    return Job.make(
        "talkverse", Weights(str(BEFORE / "weights"), **weights), machine, files, module.Settings(**made), "t"
    )


def test_without_trained_files_an_older_record_is_this_job():
    assert RECORD["lora_rank"] == 128 and RECORD["lora_alpha"] == 128.0
    assert job().differences(RECORD) == []
    assert not [name for name in job().made_from if name.startswith("lora")]


def test_contents_and_strengths_decide(tmp_path):
    for name, text in (("a.safetensors", b"a"), ("b.safetensors", b"b"), ("copy.safetensors", b"a")):
        (tmp_path / name).write_bytes(text)
    a, b, copy = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "copy"))
    one = job(lora_ckpt=(a,))
    assert one.made_from["lora_ckpt's file"] == [digest(a)]
    assert one.identity() == job(lora_ckpt=(copy,)).identity()
    others = [
        job(),
        job(lora_ckpt=(b,)),
        job(lora_ckpt=(a, b)),
        job(lora_ckpt=(b, a)),
        job(lora_ckpt=(a,), lora_alpha=2),
    ]
    others += [job(lora_ckpt=(a, b), lora_strength=(1.0, 0.8)), job(lora_ckpt=(a,), lora_strength=(0.5,))]
    assert len({each.identity() for each in (one, *others)}) == 1 + len(others)
    assert job(lora_ckpt=(a,), lora_strength=(0.5,)).differences(one.made_from) == ["lora_strength"]
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    assert job(lora_ckpt=(a,)).differences(one.made_from) == ["lora_ckpt's file"]


@pytest.mark.parametrize(
    "given, differ", [({}, ["lora_alpha", "lora_rank"]), (dict(lora_rank=128, lora_alpha=128.0), [])]
)
def test_an_older_record_of_one_file_says_how_it_was_added(tmp_path, given, differ):
    (tmp_path / "a.safetensors").write_bytes(b"a")
    path = str(tmp_path / "a.safetensors")
    before = RECORD | {"lora_ckpt's file": digest(path)}
    assert job(lora_ckpt=(path,), **given).differences(before) == differ


def test_what_belongs_to_a_switch_decides_while_it_is_on(monkeypatch):
    monkeypatch.setattr(manifest, "identity", lambda folder: {})
    module = importlib.import_module("talkverse_jax.families.multitalk.settings")

    def of(**settings) -> Job:
        files = module.Files(str(BEFORE / "batch/face.png"), (str(BEFORE / "batch/speech-0.flac"), "none"))
        return Job.make("multitalk", Weights(""), Machine(), files, module.Settings("", base_seed=1, **settings), "t")

    assert of(apg_momentum=0.5).identity() == of().identity()
    assert of(use_apg=True, apg_momentum=0.5).differences(of(use_apg=True).made_from) == ["apg_momentum"]
    assert of(use_apg=True).differences(of(use_apg=True).made_from) == []
