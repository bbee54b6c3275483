"""What lies in a file's place when it was not fetched, for every kind of file."""

import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import safetensors_io
from talkverse_jax.weights.gguf_reader import read_gguf
from talkverse_jax.weights.json_table import read_table
from talkverse_jax.weights.mapped import read_one
from talkverse_jax.weights.torch_reader import read_torch

POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4665a0b2f5d6ee6b0a1d3f7ea4f0d2b6c4a7e1b5f6b3f8d3e1b6b0d2f5e4c3a2
size 9999659200
"""
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>"
READERS = {
    "safetensors": safetensors_io.read_file,
    "pth": read_torch,
    "gguf": read_gguf,
    "json": read_table,
    "bin": read_one,
}


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize(
    "data, message",
    [
        (
            POINTER,
            "is a Git LFS pointer to a file of 9,999,659,200 bytes, not the file; run `git lfs pull` in",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer to a file, not the file; run `git lfs"),
        (PAGE, "is a web page, not the file (one that asks to log in, or tells of an error); download it again"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page, not the file"),
        (b"", "is empty; download it again"),
    ],
)
def test_a_stand_in_is_told(tmp_path, ending, data, message):
    path = tmp_path / f"model.{ending}"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        READERS[ending](path)
    assert str(error.value).startswith(f"{path}: {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize("ending", READERS)
def test_no_file(tmp_path, ending):
    with pytest.raises(UserError, match=rf"model\.{ending}: no such file"):
        READERS[ending](tmp_path / f"model.{ending}")


@pytest.mark.parametrize(
    "text, message",
    [
        ("[" * 100_000, "nested too deeply; download it again"),
        ('{"a": 1', "not JSON ("),
        ("[1]", "not a table of values; download it again"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON (Exceeds the limit"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        safetensors_io.read_index(path)
    assert str(error.value).startswith(f"{path}: {message}")
    path.write_bytes(json.dumps({"a": "é"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match="not JSON"):
        read_table(path)
