"""Two plans beside each other: what moved, and where."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.plan.report import GB, table_lines

_MOVED = 0.005  # of a program's time, below which a piece is not shown
_SHOWN = 10
_LINE = re.compile(r"(\.py):\d+")
_FIGURES = (
    ("schedule ms", "schedule_ms", 1.0),
    ("at best ms", "bound_ms", 1.0),
    ("MFU %", "mfu", 100.0),
    ("HBM GB", "hbm_gb", 1.0),
    ("links wait ms", "exposed_ms", 1.0),
    ("memory GB", "total", 1 / GB),
)


def read_plans(path: str) -> Sequence[Mapping[str, Any]]:
    """The plans of a file that `--json` wrote.

    Raises:
      UserError: it cannot be read, or is something else.
    """
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        return [plan for plan in read["plans"] if plan["topology"]["name"] and plan["programs"] is not None]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", field="compare") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: is no plan; give a file that --json wrote", field="compare") from None


def compared(now: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> str:
    """What is different in a plan (as JSON) from that of the same machine in an earlier file."""
    name = now["topology"]["name"]
    before = next((plan for plan in earlier if plan["topology"]["name"] == name), None)
    if before is None:
        return f"{name}: the earlier file has no plan of it"
    lines = []
    if before["mesh"] != now["mesh"] or before["job"] != now["job"]:
        lines.append(f"{name}: the earlier plan is of another mesh or job")
    programs = {program["name"]: program for program in before["programs"]}
    for program in now["programs"]:
        if (past := programs.get(program["name"])) is None:
            lines.append(f"{program['name']}: not in the earlier plan")
        else:
            lines += _program(program, past)
    return "\n".join(lines)


def _program(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    rows = [[now["name"], "before", "now", "change"]]
    for shown, key, unit in _FIGURES:
        old, new = before.get(key), now.get(key)
        if old is None or new is None:
            continue
        change = f"{new / old - 1:+.1%}" if old else "-"
        rows.append([f"  {shown}", f"{unit * old:.2f}", f"{unit * new:.2f}", change])
    old, new = (_by_source(each) for each in (before, now))
    floor = _MOVED * (now.get("schedule_ms") or 0.0)
    moved = {source: new.get(source, 0.0) - old.get(source, 0.0) for source in old | new}
    for source in sorted(moved, key=lambda each: -abs(moved[each]))[:_SHOWN]:
        if old and new and abs(moved[source]) > floor:
            figures = (old.get(source, 0.0), new.get(source, 0.0))
            rows.append([f"  {source}"[:70], *(f"{ms:.2f}" for ms in figures), f"{moved[source]:+.2f} ms"])
    return [*table_lines(rows), ""]


def _by_source(program: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds by the place in our code, whatever its line."""
    found: dict[str, float] = {}
    for piece in (program.get("schedule") or {}).get("pieces", ()):
        source = _LINE.sub(r"\1", piece["source"]) or piece["name"]
        found[source] = found.get(source, 0.0) + 1e3 * piece["seconds"]
    return found
