"""The published widths on a CPU: minutes and gigabytes, so only `make test-slow` runs these."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from talkverse_jax.parity.compare import run_bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_the_golden_of_full_width(golden):
    """One billion parameters in float32: 8 GB."""
    [velocity] = run_bundle(golden("dit_full_width"), taps=False)
    assert velocity.passed and velocity.max_rel < 1e-5, str(velocity)


def test_a_step_of_the_full_model_in_bfloat16_takes_at_most_20_gb():
    command = [sys.executable, str(ROOT / "benchmarks" / "full_size.py")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    peak = re.fullmatch(r"peak RSS (\S+) GB", run.stdout.strip().splitlines()[-1])
    assert 11.4 < float(peak[1]) <= 20, run.stdout
