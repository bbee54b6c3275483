"""Reference bundles of an original program run through our code, every tensor compared (docs/parity.md).

The modules, weight tables and sampling step are those that sampling runs.
"""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.parity.options import ParityOptions
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.cases import RunCase
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.bundle import Bundle, outputs_of

# Largest error allowed, as a share of the largest value of the tensor (docs/parity.md).
_LIMIT = 2e-4
_CHAINED_LIMIT = 2e-3
_GRADIENT_LIMIT = 1e-3
# Besides, no single value may be off by this share of itself, plus what rounding may add to a small one: one
# wrong value among many is seen even where it is small.
_VALUE_LIMIT = 5e-3
_ROUNDING = 2e-5  # as a share of the largest value, again
_CHAINED_ROUNDING = 1e-4


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


def compare(name: str, ours: np.ndarray | None, reference: np.ndarray, chained: bool = False) -> Comparison:
    """Compare a tensor; one that is missing, of another shape or not finite fails.

    Args:
      chained: whether many calls of models led to it.
    """
    if ours is None:
        return Comparison(name, np.nan, np.nan, False, "  not computed")
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    if ours.shape != reference.shape:
        return Comparison(name, np.nan, np.nan, False, f"  shape {ours.shape}, not {reference.shape}")
    error, largest = np.abs(ours - reference), np.abs(reference).max(initial=0.0)
    max_abs = error.max(initial=0.0)
    usual = _GRADIENT_LIMIT if name.startswith("outputs/grad") else _LIMIT
    limit, rounding = (_CHAINED_LIMIT, _CHAINED_ROUNDING) if chained else (usual, _ROUNDING)
    close = error <= np.minimum(limit * largest, _VALUE_LIMIT * np.abs(reference) + rounding * largest)
    return Comparison(name, max_abs, max_abs / (largest or 1.0), bool(close.all()))


def run_bundle(
    bundle: Bundle,
    taps: bool,
    mesh: MeshConfig | None = None,
    family: str | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
) -> list[Comparison]:
    """Every output of the bundle compared, and with `taps` the values on the way, in order of computation.

    Args:
      mesh: split the models over all devices; by default they run on the first.
      family: whose cases; by default those of the family that the bundle names, or the first that has such a case.
      expected: outputs by name, in place of the bundle's.

    Raises:
      UserError: the family, or none of them, has such a case.
    """
    cases = _cases(bundle, family or bundle.family)
    try:
        case = cases[bundle.component](bundle, mesh)
    except KeyError as error:
        raise UserError(f"{bundle.path}: lacks {error}; see docs/parity.md for what a bundle holds") from error
    found = [
        compare(f"outputs/{name}", case.outputs.get(name), reference, case.chained)
        for name, reference in (bundle.group("outputs") if expected is None else expected).items()
    ]
    if taps:
        references = bundle.group("taps")
        found += [
            compare(f"taps/{name}", value, references[name], case.chained)
            for name, value in case.taps.items()
            if name in references
        ]
    return found


def _cases(bundle: Bundle, family: str | None) -> Mapping[str, RunCase]:
    known: dict[str, None] = {}
    for name in [family] if family else registry.names():
        cases = registry.find(name).parity_cases
        if bundle.component in cases:
            return cases
        known |= dict.fromkeys(cases)
    raise UserError(f"{bundle.path}: component {bundle.component!r} cannot be run; known are {', '.join(known)}")


def run(options: ParityOptions, reporter: Reporter) -> list[Comparison]:
    """Compare with all bundles, and say each result.

    Raises:
      UserError: a bundle is none, or cannot be run.
    """
    mesh, every = MeshConfig.read(options.mesh) if options.mesh else None, []
    expected = outputs_of(options.expected) if options.expected else None
    for path in options.bundles:
        bundle = Bundle(path, (options.weights, options.map) if options.weights else None)
        reporter.say(f"{bundle.path.name} ({bundle.component})")
        with jax.default_matmul_precision("highest"):
            found = run_bundle(bundle, options.taps, mesh, options.family, expected)
        for comparison in found:
            reporter.say(str(comparison))
        if options.taps:
            parted = [c.name.removeprefix("taps/") for c in found if c.name.startswith("taps/") and not c.passed]
            reporter.say(f"  first to part: {parted[0] if parted else 'none'}")
        every += found
    passed = sum(comparison.passed for comparison in every)
    reporter.say(f"{passed} passed, {len(every) - passed} failed")
    return every
