"""Converted weights on a disk that changes bits, and what a power cut leaves of a conversion."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.cli import verify
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.weights import manifest, store
from tests.disk import flipped, note_order, untold


@pytest.fixture
def own(tiny_weights, tmp_path) -> Path:
    """A copy of the weights to damage."""
    return Path(shutil.copytree(tiny_weights, tmp_path / "w"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _numbers(folder: Path, name: str) -> dict[str, bytes]:
    module = store.load_module(folder, COMPONENTS[name])
    return {path: np.asarray(value).tobytes() for path, value in tree.parameters(module).items()}


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_verify_tells_every_bit_that_is_another_one(own, count):
    def told(path: Path) -> bool:
        with pytest.raises(UserError, match="run talkverse-jax convert") as error:
            store.look_over(own, verify=True)
        return "\n" not in str(error.value) and str(own) in str(error.value)

    assert untold(_files(own), count, told) == []
    assert store.look_over(own, verify=True) == ()


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_no_other_numbers_are_loaded(own, monkeypatch, count):
    """Of large files what is read is compared; what is not told is of bytes that nobody reads."""
    monkeypatch.setattr(store, "_SMALL", 0)
    name = "audio"
    numbers, loaded = _numbers(own, name), []

    def told(path: Path) -> bool:
        try:
            loaded.append(_numbers(own, name) == numbers)
        except UserError as error:
            return str(own / name) in str(error) and "run talkverse-jax convert" in str(error)
        return False

    missed = untold(_files(own / name), count, told)
    assert len(loaded) == len(missed) < count and all(loaded)


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_every_bit_of_small_files_is_compared_at_every_start(own, count):
    def told(path: Path) -> bool:
        with pytest.raises(UserError, match="dit/.*run talkverse-jax convert"):
            store.load_config(own, COMPONENTS["dit"])
        return True

    files = [path for path in _files(own / "dit") if path.stat().st_size < 1024**2]
    assert len(files) > 8 and untold(files, count, told) == []
    assert store.load_config(own, COMPONENTS["dit"])


def test_numbers_are_compared_as_they_are_read(own, monkeypatch):
    """The largest file of a component holds its arrays."""
    monkeypatch.setattr(store, "_SMALL", 0)
    path = max(_files(own / "dit"), key=lambda path: path.stat().st_size)
    with flipped(path, 4 * path.stat().st_size), pytest.raises(UserError, match=r"dit: damaged \(.*delete it and run"):
        store.load_module(own, COMPONENTS["dit"])
    store.load_module(own, COMPONENTS["dit"])


def test_weights_of_an_older_version_are_used_and_it_is_said(own):
    numbers = _numbers(own, "vae")
    for name in ("vae", "dit"):
        (own / name / "checksums").unlink()
    [line] = store.look_over(own, verify=True)
    assert line.startswith(f"{own}: an older version converted dit, vae, without checksums")
    assert _numbers(own, "vae") == numbers


def test_the_command_tells_what_it_found(own, capsys):
    verify.main([str(own)], "verify")
    assert capsys.readouterr().out == f"{own}: {', '.join(manifest.read(own))}: no damage found\n"
    with flipped(own / "dit" / "published.json", 1000), pytest.raises(UserError, match="published.json: not as it was"):
        verify.main([str(own)], "verify")


def test_a_component_is_on_the_disk_before_the_manifest_names_it(own, monkeypatch):
    entry = manifest.read(own)["vae"]
    with store.staging(own, "vae") as folder:
        shutil.copytree(own / "vae", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checksums"))
        order = note_order(monkeypatch)
        store.commit(own, "vae", entry, "talkverse")
    named = order.index(("name", str(own / "vae")))
    synced = {path for done, path in order[:named] if done == "sync"}
    written = {str(path).replace(f"{own}/vae", f"{own}/vae.partial") for path in (own / "vae").rglob("*")}
    assert written - synced == {f"{own}/vae.partial/checksums"}  # it was synced under another name
    assert f"{own}/vae.partial/checksums.partial" in synced
    after = order[named:]
    assert after.index(("sync", str(own))) < after.index(("sync", f"{own}/manifest.json.partial"))
