"""The figures of a part of `gpu.py`, as they come."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class PartReport:
    """The figures of a part: printed, and written to a file, as they come."""

    def __init__(self, part: str, size: str, path: Path | None):
        device = jax.local_devices()[0]
        self.part, self.path, self.figures = part, path, {}
        self.all = {"device": device.device_kind, "jax": jax.__version__, "size": size, part: self.figures}
        self.add(f"{device.device_kind} ({device.platform}), JAX {jax.__version__}")

    def add(self, line: str, **figures: Any) -> None:
        print(f"{self.part}: {line}", flush=True)
        self.figures |= figures
        if self.path:
            self.path.write_text(json.dumps(self.all, indent=2) + "\n")

    def peak(self) -> None:
        """The most memory that was in use in this process; a CPU keeps no count."""
        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        self.add(f"peak memory {peak / 1e9:.1f} GB" if peak else "peak memory unknown", peak_bytes=peak)

    def compiled(self, name: str, function: Any, *args, **static) -> Callable[..., Any]:
        """A jitted function compiled for these arguments."""
        begin = time.perf_counter()
        program = function.lower(*args, **static).compile()
        seconds, temporaries = time.perf_counter() - begin, program.memory_analysis().temp_size_in_bytes
        figures = {f"{name}_compile_seconds": seconds, f"{name}_temporary_bytes": temporaries}
        self.add(f"{name} compiled in {seconds:.0f} s, temporaries {temporaries / 1e9:.1f} GB", **figures)
        return program

    def attempt(self, name: str, run: Callable[..., Any], *args: Any) -> Any:
        """What `run` returns; where it cannot run here, None, and the reason is a figure."""
        try:
            return run(*args)
        except Exception as error:  # whatever a kernel, a compiler or a missing package raises: the next goes on
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.add(f"{name}: not run: {reason}", not_run=self.figures.get("not_run", {}) | {name: reason})
            return None

    def attempt_row(self, table: str, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """A row of a table of figures, which holds `ms` and `tflops_a_second`."""
        found = self.attempt(name, measure)
        if found:
            line = f"{name}: {found['ms']:.2f} ms, {found['tflops_a_second']:.3g} TFLOP/s"
            line += f", error {found['error']:.1e}" if "error" in found else ""
            self.add(line, **{table: self.figures.get(table, {}) | {name: found}})
