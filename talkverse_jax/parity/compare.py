"""Run reference bundles of the original program through our code and compare every tensor.

    python -m talkverse_jax.parity.compare BUNDLE... [--taps]

A bundle is one case of the original program in a safetensors file (docs/parity.md): inputs, outputs, values
on the way. The modules, weight tables and sampling step are those that `sample.py` runs. The exit code is 0
only if nothing failed.
"""

import argparse
import dataclasses
import sys

import jax
import numpy as np

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError
from talkverse_jax.parity.cases import CASES as FORWARD_CASES
from talkverse_jax.parity.training_cases import run_train_loss
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle

CASES = {**FORWARD_CASES, "train_loss": run_train_loss}

# Largest error allowed, as a share of the largest value of the tensor (docs/parity.md).
_LIMITS = {"pipeline": 2e-3}
_LIMIT = 2e-4
_GRADIENT_LIMIT = 1e-3
# Besides, no single value may be off by this share of itself, plus what rounding may add to a small one: one
# wrong value among many is seen even where it is small.
_VALUE_LIMIT = 5e-3
_ROUNDING = {"pipeline": 1e-4}  # as a share of the largest value, again
_ROUNDING_ELSEWHERE = 2e-5


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One tensor against its reference: largest absolute error, the same relative to the largest value."""

    name: str
    max_abs: float
    max_rel: float
    passed: bool
    note: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAIL"
        errors = f"max abs {self.max_abs:.2e}  max rel {self.max_rel:.2e}"
        return f"  {self.name:<44} {errors}  {verdict}{self.note}"


def compare(name: str, ours: np.ndarray | None, reference: np.ndarray, component: str) -> Comparison:
    """Compare a tensor of a component; one that is missing, of another shape or not finite fails."""
    if ours is None:
        return Comparison(name, np.nan, np.nan, False, "  not computed")
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    if ours.shape != reference.shape:
        return Comparison(name, np.nan, np.nan, False, f"  shape {ours.shape}, not {reference.shape}")
    error, largest = np.abs(ours - reference), np.abs(reference).max(initial=0.0)
    max_abs = error.max(initial=0.0)
    usual = _GRADIENT_LIMIT if name.startswith("outputs/grad") else _LIMIT
    limit = _LIMITS.get(component, usual) * largest
    rounding = _ROUNDING.get(component, _ROUNDING_ELSEWHERE) * largest
    close = error <= np.minimum(limit, _VALUE_LIMIT * np.abs(reference) + rounding)
    return Comparison(name, max_abs, max_abs / (largest or 1.0), bool(close.all()))


def run_bundle(bundle: Bundle, taps: bool, mesh: MeshConfig | None = None) -> list[Comparison]:
    """Every output of the bundle compared, and with `taps` the values on the way, in order of computation.

    Args:
      mesh: split the models over all devices; by default they run on the first.

    Raises:
      UserError: the bundle's component is not of this program.
    """
    run = CASES.get(bundle.component)
    if run is None:
        raise UserError(f"{bundle.path}: component {bundle.component!r} cannot be run; known are {', '.join(CASES)}")
    try:
        case = run(bundle, mesh)
    except KeyError as error:
        raise UserError(f"{bundle.path}: lacks {error}; see docs/parity.md for what a bundle holds") from error
    found = [
        compare(f"outputs/{name}", case.outputs.get(name), reference, bundle.component)
        for name, reference in bundle.group("outputs").items()
    ]
    if taps:
        references = bundle.group("taps")
        found += [
            compare(f"taps/{name}", value, references[name], bundle.component)
            for name, value in case.taps.items()
            if name in references
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m talkverse_jax.parity.compare",
        description="Compare our numbers with reference bundles of the original program.",
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="reference bundle (.safetensors)")
    parser.add_argument(
        "--taps", action="store_true", help="compare the values on the way too and name the first that parts"
    )
    parser.add_argument(
        "--mesh",
        metavar="AXES",
        help="split the models over all devices, such as data=2,context=-1, or a file of configs/mesh",
    )
    args = parser.parse_args()
    mesh = MeshConfig.read(args.mesh) if args.mesh else None

    passed = failed = 0
    for path in args.bundles:
        bundle = Bundle(path)
        print(f"{bundle.path.name} ({bundle.component})", flush=True)
        with jax.default_matmul_precision("highest"):
            comparisons = run_bundle(bundle, args.taps, mesh)
        for comparison in comparisons:
            print(comparison, flush=True)
            passed, failed = passed + comparison.passed, failed + (not comparison.passed)
        parted = [c.name.removeprefix("taps/") for c in comparisons if c.name.startswith("taps/") and not c.passed]
        if args.taps:
            print(f"  first to part: {parted[0] if parted else 'none'}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
