"""The client runs where the models could not."""

import subprocess
import sys

from tests.processes import ROOT

_CODE = """
import sys
import talkverse_jax.client
print(sorted({name.split(".")[0] for name in sys.modules} & {"jax", "numpy", "av", "flax", "PIL", "transformers"}))
print(sorted(name for name in sys.modules if name.startswith("talkverse_jax.") and ".client" not in name))
"""


def test_it_imports_nothing_heavy_and_nothing_else_of_ours():
    done = subprocess.run([sys.executable, "-c", _CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
