"""`benchmarks/data.py` at its smallest."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_all_figures_are_measured(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "data.py", "--json", tmp_path / "data.json"]
    command += ["--videos", "2", "--frames", "8", "--samples", "4", "--turns", "1"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    figures = json.loads((tmp_path / "data.json").read_text())
    assert len(figures) == 15 and np.isfinite(list(figures.values())).all()
    assert figures["shards, threads: samples/s"] > 10 * figures["videos, threads: samples/s"]
    assert figures["shards: share of a step that the devices waited"] < 0.02
    assert 0 < figures["shards: seconds a step alone"] < figures["videos: seconds a step in the loop"]
