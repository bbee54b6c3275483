"""Reference bundles of an original program run through our code, every tensor compared (docs/parity.md).

The modules, weight tables and sampling step are those that sampling runs.
"""

import dataclasses

import jax
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.parity.options import ParityOptions
from talkverse_jax.pipeline import registry
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle

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


def run_bundle(
    bundle: Bundle, taps: bool, mesh: MeshConfig | None = None, family: str | None = None
) -> list[Comparison]:
    """Every output of the bundle compared, and with `taps` the values on the way, in order of computation.

    Args:
      mesh: split the models over all devices; by default they run on the first.
      family: whose cases; by default those of the family that the bundle names.

    Raises:
      UserError: the family has no such case.
    """
    cases = registry.find(family or bundle.family or registry.DEFAULT).parity_cases
    if bundle.component not in cases:
        raise UserError(f"{bundle.path}: component {bundle.component!r} cannot be run; known are {', '.join(cases)}")
    try:
        case = cases[bundle.component](bundle, mesh)
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


def run(options: ParityOptions, reporter: Reporter) -> list[Comparison]:
    """Compare with all bundles, and say each result.

    Raises:
      UserError: a bundle is none, or cannot be run.
    """
    mesh, every = MeshConfig.read(options.mesh) if options.mesh else None, []
    for path in options.bundles:
        bundle = Bundle(path)
        reporter.say(f"{bundle.path.name} ({bundle.component})")
        with jax.default_matmul_precision("highest"):
            found = run_bundle(bundle, options.taps, mesh, options.family)
        for comparison in found:
            reporter.say(str(comparison))
        if options.taps:
            parted = [c.name.removeprefix("taps/") for c in found if c.name.startswith("taps/") and not c.passed]
            reporter.say(f"  first to part: {parted[0] if parted else 'none'}")
        every += found
    passed = sum(comparison.passed for comparison in every)
    reporter.say(f"{passed} passed, {len(every) - passed} failed")
    return every
