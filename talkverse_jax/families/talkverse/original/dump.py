"""Write a reference bundle from the original PyTorch program and the weights a person holds (docs/parity.md).

Runs in the Python that the original runs in (torch and its requirements; JAX is not needed), in float32 on the CPU.
"""

import importlib.util
from pathlib import Path
from typing import Any

from talkverse_jax.core import strict_json
from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.paths import check_apart
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.core.text import read_text
from talkverse_jax.families.talkverse.original.clone import use_clone
from talkverse_jax.families.talkverse.original.options import WANTED, DumpOptions
from talkverse_jax.weights.bundle import write_bundle


def run(options: DumpOptions, reporter: Reporter) -> Path:
    """Run the original and write what went in and came out.

    Raises:
      UserError: a path, a file or this Python cannot be used.
    """
    options = options.located()
    paths = [name for name in WANTED if name != "repo" and getattr(options, name)]
    read = [(f"--{name}", options.path(name)) for name in paths]
    check_apart([Path(options.out)], read, "give another --out")
    sizes = _sizes(options.config)
    if importlib.util.find_spec("torch") is None:
        raise UserError("torch: not installed in this Python; run this in the original's environment")
    use_clone(Path(options.repo))

    from talkverse_jax.families.talkverse.original.cases import CASES

    case, out = CASES[options.component](options, sizes), Path(options.out)
    meta = {"family": "talkverse", "component": options.component, "config": case.config} | case.extra
    meta["weights"] = options.weights(case.files)
    write_bundle(out, meta, {"inputs": case.inputs, "outputs": case.outputs, "taps": case.taps})
    reporter.say(f"{out}: {options.component}, {len(case.outputs)} outputs, {len(case.taps)} values on the way")
    return out


def _sizes(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = strict_json.loads(read_text(path, WANTED["config"]), path)
    except UserError as error:
        raise UserError(error.reason, field="config") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: {brief(values)} is no table of sizes; give {WANTED['config']}", field="config")
    return values
