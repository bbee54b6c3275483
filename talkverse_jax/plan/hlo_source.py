"""Where in the source files an operation comes from, by the tables at the head of a compiled program's text."""

import re
from collections.abc import Mapping

from talkverse_jax.plan.hlo_text import CompiledProgram, Instruction

_TABLE = re.compile(r"^(FileNames|FunctionNames|FileLocations|StackFrames)\n((?:\d+ .*\n)*)", re.MULTILINE)
_FRAME = r"stack_frame_id=(\d+)"
_LAYER = re.compile(r"ops/|.*/linear\.py:")
_OURS = "talkverse_jax/"
_NUMBER = re.compile(r"(\w+)=(\d+)")


class SourcePlaces:
    """The tables of a text; empty where it has none."""

    def __init__(self, text: str):
        head = text[: text.find("\n%")]
        tables = {name: dict(_rows(body)) for name, body in _TABLE.findall(head)}
        self._names = [
            ({number: name.strip('"') for number, name in tables.get(table, {}).items()}, key)
            for table, key in (("FileNames", "file_name_id"), ("FunctionNames", "function_name_id"))
        ]
        self._locations = {number: _numbers(row) for number, row in tables.get("FileLocations", {}).items()}
        self._frames = {number: _numbers(row) for number, row in tables.get("StackFrames", {}).items()}

    def of(self, program: CompiledProgram, instruction: Instruction) -> str:
        """`models/wan/block.py:86 FeedForward.__call__`, the innermost place of our own that is more than a kernel or a
        layer, and what JAX calls the operation; as much of it as is known. Of a fusion without a place, its first
        part's that has one."""
        called = instruction.called("calls")
        parts = program.computations[called[0]].instructions[::-1] if called else ()
        known = next((each for each in (instruction, *parts) if each.attribute(_FRAME)), instruction)
        places = self._places(int(known.attribute(_FRAME) or 0))
        ours = [place.removeprefix(_OURS) for place in places if place.startswith(_OURS)]
        found = next((place for place in ours if not _LAYER.match(place)), (ours or places or [""])[0])
        return f"{found} {known.op_name.rpartition('/')[2]}".strip()

    def _places(self, number: int) -> list[str]:
        """Where a frame is, and where what called it is, outwards."""
        found: list[str] = []
        while frame := self._frames.get(number):
            place = self._locations[frame["file_location_id"]]
            file, function = (names.get(place[key], "?") for names, key in self._names)
            found.append(f"{file}:{place['line']} {function}")
            number = frame.get("parent_frame_id", 1) - 1  # it counts from the frame before the first
        return found


def _rows(body: str) -> list[tuple[int, str]]:
    rows = [line.split(" ", 1) for line in body.splitlines()]
    return [(int(number), rest) for number, rest in rows]


def _numbers(row: str) -> Mapping[str, int]:
    return {name: int(number) for name, number in _NUMBER.findall(row)}
