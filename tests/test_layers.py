"""Imports run downward only (docs/architecture.md): walk every file and look."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "talkverse_jax"

# lowest first; a package imports those of lower rank and its own
RANK = {
    "core": 0,
    "sharding": 1,
    "weights": 2,
    "ops": 2,
    "models": 3,
    "diffusion": 4,
    "media": 4,
    "data": 5,
    "pipeline": 6,
    "families": 7,
    "run": 8,
    "training": 9,
    "convert": 10,
    "plan": 11,
    "parity": 11,
    "evaluate": 11,
    "cli": 12,
    "toy": 13,
}


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.split(".") for name in found if name.startswith("talkverse_jax.")]


def _upward(path: Path) -> list[str]:
    here = path.relative_to(PACKAGE).parts
    wrong = []
    for name in _imports(path):
        package = name[1]
        if package == "__version__":
            continue
        upward = RANK[package] > RANK[here[0]]
        sideways = package != here[0] and RANK[package] == RANK[here[0]] and package != "ops"
        # the trunk knows no family, and families do not know each other
        family = package == here[0] == "models" and name[2] not in (here[1], "wan")
        if upward or sideways or family:
            wrong.append(f"{'/'.join(here)} imports {'.'.join(name)}")
    return wrong


def test_imports_run_downward():
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]
    assert len(files) > 30
    assert [line for path in files for line in _upward(path)] == []


def test_an_upward_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / "ops" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from talkverse_jax.models.wan.config import WanConfig\n")
    assert _upward(bad) == ["ops/bad.py imports talkverse_jax.models.wan.config.WanConfig"]


def test_the_measures_know_nothing_of_the_toy_world():
    files = list((PACKAGE / "evaluate").glob("*.py"))
    assert len(files) > 5
    assert [name for path in files for name in _imports(path) if name[1] == "toy"] == []


def test_the_trunk_knows_no_audio():
    for path in (PACKAGE / "models" / "wan").glob("*.py"):
        assert "audio" not in path.read_text().lower(), path
