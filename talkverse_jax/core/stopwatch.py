"""Where a run's time went, with XLA's compilation counted apart from the phase it happens in."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax

COMPILING = "compiling"
_WAITED = "/talkverse_jax/waited_for_programs"
_COMPILE_EVENTS = (
    _WAITED,
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


@contextmanager
def waiting_for_programs() -> Iterator[None]:
    """The block waits for another thread's compilation."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        jax.monitoring.record_event_duration_secs(_WAITED, time.perf_counter() - begin)


class Stopwatch:
    """Seconds by phase. Phases do not nest; compile time inside a phase, of its own thread, is moved to `compiling`.

    Moments (`to_first_step`) are seconds since the stopwatch was made, which is when the run begins.
    """

    def __init__(self, *phases: str):
        self.begin = time.perf_counter()
        self.seconds = dict.fromkeys((*phases, COMPILING), 0.0)
        self.moments: dict[str, float] = {}

    def mark(self, moment: str) -> None:
        """Note when something was reached for the first time; later calls change nothing."""
        self.moments.setdefault(moment, time.perf_counter() - self.begin)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        compiling, own = 0.0, threading.get_ident()

        def listen(event: str, duration_secs: float, **_) -> None:
            nonlocal compiling
            if event in _COMPILE_EVENTS and threading.get_ident() == own:
                compiling += duration_secs

        jax.monitoring.register_event_duration_secs_listener(listen)
        begin = time.perf_counter()
        try:
            yield
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
            self.seconds[name] += max(0.0, time.perf_counter() - begin - compiling)
            self.seconds[COMPILING] += compiling

    def rounded(self) -> dict[str, float]:
        """Phases, moments and the `total` since the beginning."""
        total = {"total": time.perf_counter() - self.begin}
        return {name: round(seconds, 3) for name, seconds in (self.seconds | self.moments | total).items()}
