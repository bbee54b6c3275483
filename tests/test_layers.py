"""The house of docs/architecture.md: walk every file and look who imports whom, who names a family, who prints."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkverse_jax.pipeline import registry

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "talkverse_jax"

# The floors, lowest first: a package imports those below it. Packages of one floor do not import each other.
FLOORS = (
    ("core",),
    ("client", "sharding"),
    ("ops", "weights"),
    ("models",),
    ("diffusion", "media"),
    ("data", "helpers"),
    ("pipeline",),
    ("families", "run", "training"),
    ("convert", "plan", "parity", "evaluate"),
    ("serve",),
    ("cli",),
    ("toy",),
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
DOORS = {"cli", "serve", "toy"}  # they print and know flags; the toy world's programs stand on top of all

# The family in the tests is called as many other things are; nobody could write its name by mistake.
FAMILIES = "|".join({*registry.names(), "talkverse", "multitalk", "infinitetalk"} - {"second"})
# The project is named after its first family: talkverse_jax, talkverse-jax, and TALKVERSE_API_KEY in the environment.
NAMES_A_FAMILY = re.compile(rf"({FAMILIES})(?!.?jax|_[A-Z_]+KEY)", re.IGNORECASE)
REGISTRY = "pipeline/registry.py"

SETTINGS = [f"{registry.settings_of(name).__name__}" for name in registry.names()]


def _files(*but: str) -> list[Path]:
    """The package's files, but those of some of its packages."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in but]


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> list[str]:
    """Full names of what a file imports, at its top or later."""
    found = []
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_place(path)}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _upward(path: Path) -> list[str]:
    here = path.relative_to(PACKAGE).parts
    wrong = []
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "talkverse_jax" or len(parts) < 2 or parts[1] not in FLOOR:
            continue  # the package's own names, such as its version
        elsewhere = parts[1] != here[0]
        # models do not know each other, but for the trunk; neither do families
        stranger = here[0] in ("models", "families") and not elsewhere and parts[2] not in (*here[1:], "wan")
        if (elsewhere and FLOOR[parts[1]] >= FLOOR[here[0]]) or stranger:
            wrong.append(f"{'/'.join(here)} imports {name}")
    return wrong


def _without_docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return (node for node in ast.walk(tree) if node not in docstrings)


def _words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names and strings of a program with their lines."""
    for node in _without_docstrings(tree):
        for field in ("id", "attr", "arg", "name", "module", "asname", "value"):
            if isinstance(word := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), word


def _families_named(path: Path) -> list[str]:
    return [f"{_place(path)}:{line}: {word!r}" for line, word in _words(_parsed(path)) if NAMES_A_FAMILY.search(word)]


def _printed(path: Path) -> list[str]:
    """Where a file writes to the terminal, or can."""
    found = [name for name in _imports(path) if name.split(".")[0] in ("tqdm", "argparse")]
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call == "print" or re.fullmatch(r"sys\.(__)?std(out|err)(__)?\.write(lines)?", call):
                found.append(f"line {node.lineno}: {call}")
    return [f"{_place(path)}: {what}" for what in found]


def test_imports_run_downward():
    files = [path for path in _files() if path.parent != PACKAGE]
    assert len(files) > 100
    assert {path.relative_to(PACKAGE).parts[0] for path in files} <= FLOOR.keys()
    assert [line for path in files for line in _upward(path)] == []


def test_no_family_is_named_outside_its_folder():
    files = [path for path in _files("families", "toy") if _place(path) != REGISTRY]
    assert [line for path in files for line in _families_named(path)] == []


def test_only_doors_print_and_know_flags():
    assert [line for path in _files(*DOORS) for line in _printed(path)] == []


@pytest.mark.parametrize(
    "module",
    [
        "talkverse_jax",
        "talkverse_jax.cli.main",
        "talkverse_jax.core.options",
        "talkverse_jax.helpers.prompt.options",
        "talkverse_jax.helpers.speech.options",
        "talkverse_jax.pipeline.machine",
        "talkverse_jax.run.options",
        "talkverse_jax.serve.http.app",
        "talkverse_jax.serve.options",
        "talkverse_jax.training.options",
        *SETTINGS,
    ],
)
def test_options_import_no_jax(module):
    """Help would take a second more."""
    code = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_class_name_is_used_once():
    """But for those of the contract, which every family has in its `settings`, and of the client, which others see."""
    places: dict[str, list[str]] = {}
    for path in _files("client"):
        if path.name == "settings.py":
            continue
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(_place(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_private_names_of_jax_stand_in_one_file():
    files = [path for path in _files() if _place(path) != "core/jax_private.py"]
    assert [_place(path) for path in files if "jax._src" in path.read_text(encoding="utf-8")] == []


def test_texts_of_people_are_read_in_one_place():
    """`core/text.py` reads bytes; these make of its text what it means, and the toy world writes its own tables."""
    may = {"tomllib": ["core/config.py"], "csv": ["data/table.py", "toy/make.py"]}
    found = {name: [_place(path) for path in _files() if name in _imports(path)] for name in may}
    assert found == may


def test_the_measures_know_nothing_of_the_toy_world():
    files = list((PACKAGE / "evaluate").glob("*.py"))
    assert len(files) > 5
    assert [name for path in files for name in _imports(path) if name.startswith("talkverse_jax.toy")] == []


def test_the_trunk_knows_no_audio():
    for path in (PACKAGE / "models" / "wan").glob("*.py"):
        assert "audio" not in path.read_text().lower(), path


@pytest.mark.parametrize(
    "place, line, look, said",
    [
        (
            "ops/bad.py",
            "from talkverse_jax.models.wan.config import WanConfig",
            _upward,
            "ops/bad.py imports talkverse_jax.models.wan.config.WanConfig",
        ),
        (
            "run/bad.py",
            "import talkverse_jax.training.step",
            _upward,
            "run/bad.py imports talkverse_jax.training.step",
        ),
        (
            "models/vae/bad.py",
            "from talkverse_jax.models.umt5 import model",
            _upward,
            "models/vae/bad.py imports talkverse_jax.models.umt5.model",
        ),
        (
            "plan/bad.py",
            "TITLE = 'MultiTalk of 14 billion'",
            _families_named,
            "plan/bad.py:1: 'MultiTalk of 14 billion'",
        ),
        ("run/bad.py", "def f(talkverse): ...", _families_named, "run/bad.py:1: 'talkverse'"),
        ("run/bad.py", "print('done')", _printed, "run/bad.py: line 1: print"),
        ("run/bad.py", "from tqdm import tqdm", _printed, "run/bad.py: tqdm.tqdm"),
    ],
)
def test_what_is_wrong_is_seen(tmp_path, monkeypatch, place, line, look, said):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / place
    bad.parent.mkdir(parents=True)
    bad.write_text(line + "\n")
    assert look(bad) == [said]


def test_the_project_may_be_named():
    words = ("talkverse_jax.core", "talkverse-jax sample", "TALKVERSE_API_KEY", "TALKVERSE_TTS_API_KEY")
    assert [word for word in words if NAMES_A_FAMILY.search(word)] == []
