"""The command `talkverse-jax`: its list, its help without JAX, the three scripts, docs/flags.md."""

import importlib
import os
import resource
import subprocess
import sys

import pytest

import talkverse_jax
from talkverse_jax.cli.main import COMMANDS, run
from talkverse_jax.core.errors import UserError
from tests.processes import ROOT

SCRIPTS = {"sample.py": "sample", "train.py": "train", "convert_torch_weights.py": "convert"}
_NOTHING_HEAVY = """
import contextlib, io, sys
from talkverse_jax.cli.main import run
out = io.StringIO()
with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
    run([sys.argv[1], "--help"])
print(len(out.getvalue()) > 100, *sorted({"jax", "flax", "torch", "tqdm", "av"} & sys.modules.keys()))
"""


def test_the_list_and_the_version(capsys):
    run([])
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    run(["--version"])
    assert capsys.readouterr().out == f"talkverse-jax {talkverse_jax.__version__}\n"


@pytest.mark.parametrize(
    "name, hint", [("smaple", "did you mean sample"), ("contact_sheet", "did you mean contact-sheet"), ("x", "--help")]
)
def test_an_unknown_command_is_told_the_nearest(name, hint):
    with pytest.raises(UserError, match=f"{name}: no such command; .*{hint}"):
        run([name])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_nothing_heavy(name):
    done = subprocess.run([sys.executable, "-c", _NOTHING_HEAVY, name], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_quick(name):
    """0.4 s of the processor, best of five."""
    command, times = [sys.executable, "-m", "talkverse_jax", name, "--help"], []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    assert min(times) <= 0.4


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_its_command(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a script runs from any folder
    command = importlib.import_module(COMMANDS[SCRIPTS[script]][0])
    called = []
    monkeypatch.setattr(command, "main", lambda argv, prog: called.append((argv, prog)))
    monkeypatch.syspath_prepend(str(ROOT))
    importlib.import_module(script.removesuffix(".py")).main(["--x"])
    assert called == [(["--x"], script)]


def test_bad_input_is_a_line_and_exit_code_2(tmp_path):
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "talkverse_jax", "sample", "--weights", "w", "--sample_step", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: talkverse-jax sample: --sample_step: unknown flag, did you mean --sample_ste")
    assert done.stderr.count("\n") == 1


def test_the_page_of_flags_is_up_to_date():
    """As a process of its own makes it: other tests know more families."""
    made = subprocess.run([sys.executable, "-m", "talkverse_jax.cli.flags_table"], capture_output=True, check=True)
    assert (ROOT / "docs" / "flags.md").read_bytes() == made.stdout, (
        "run: python -m talkverse_jax.cli.flags_table > docs/flags.md"
    )
