"""Compare our numbers with reference bundles of the original program.

A bundle is one case of the original in a safetensors file: inputs, outputs, values on the way (docs/parity.md). The
modules, weight tables and denoising step are those that `sample` runs. The exit code is 0 only if nothing failed.
"""

import dataclasses
import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups, option
from talkverse_jax.sharding.mesh_config import MeshConfig


@dataclasses.dataclass(frozen=True)
class ParityOptions:
    """What is compared, and how it runs."""

    bundles: tuple[str, ...] = option(
        "reference bundles (.safetensors)", group="input", metavar="BUNDLE", positional=True
    )
    taps: bool = option(
        "compare the values on the way too, and name the first that parts", group="comparison", default=False
    )
    mesh: str | None = option(
        "split the models over all devices, such as data=2,context=-1, or a file of configs/mesh (default: the first "
        "device)",
        group="machine",
        metavar="AXES",
        default=None,
    )


def groups(family: str) -> Groups:
    """The options."""
    return {"parity": ParityOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    asked = parse(groups(""), prog, __doc__ or "", argv, config=False)["parity"]
    mesh = MeshConfig.read(asked.mesh) if asked.mesh else None

    import jax

    from talkverse_jax.parity.compare import run_bundle
    from talkverse_jax.weights.bundle import Bundle

    passed = failed = 0
    for path in asked.bundles:
        bundle = Bundle(path)
        print(f"{bundle.path.name} ({bundle.component})", flush=True)
        with jax.default_matmul_precision("highest"):
            comparisons = run_bundle(bundle, asked.taps, mesh)
        for comparison in comparisons:
            print(comparison, flush=True)
            passed, failed = passed + comparison.passed, failed + (not comparison.passed)
        if asked.taps:
            parted = [c.name.removeprefix("taps/") for c in comparisons if c.name.startswith("taps/") and not c.passed]
            print(f"  first to part: {parted[0] if parted else 'none'}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
