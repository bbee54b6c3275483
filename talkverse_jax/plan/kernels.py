"""The kernels of a compilation for a TPU: what the compiler dumps of them, and which operation runs which."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from talkverse_jax.plan import llo_text
from talkverse_jax.plan.hlo_text import CompiledProgram, Computation, Instruction
from talkverse_jax.plan.llo_cycles import Cycles, cycles

_FILE = re.compile(r"\d+-(.+)-\d+-final_bundles\.txt$")
_AROUND = re.compile(r"TLP|<.*")  # the program around the kernels, and what begins and ends it
_PARTS = "final_bundles"
_NAMES = re.compile(r'%[\w.\-]+|, metadata=\{[^}]*\}|, channel_id=\d+|chain_id="\d+"|"(?:fusion_)?id":"\d+"')


class Dump:
    """Asks the compiler for the final schedule of every kernel, in a folder.

    It listens to its environment once, when it is loaded: make this before JAX looks for TPUs.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        flags = {
            "xla_jf_dump_to": folder,
            "xla_jf_dump_llo_text": "true",
            "xla_jf_dump_hlo_text": "false",
            "xla_jf_dump_llo_pass_label_regex": f"^{_PARTS}$",
        }
        asked = " ".join(f"--{name}={value}" for name, value in flags.items())
        os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {asked}".strip()

    def take(self) -> "Kernels":
        """What was compiled since it was last asked for."""
        found = {}
        for path in sorted(self._folder.iterdir()):
            name = _FILE.match(path.name)
            if name and not _AROUND.fullmatch(name.group(1)):
                found[name.group(1)] = cycles(llo_text.parse(path.read_text()))
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        return Kernels(found)


class CompiledKernel(NamedTuple):
    """What an operation runs.

    Attributes:
      name: of the operation that it was compiled for first.
    """

    name: str
    cycles: Cycles


class Kernels:
    """Kernels by the operation that they were compiled for. Equal operations are compiled once."""

    def __init__(self, found: Mapping[str, Cycles]):
        self._found = found

    def matched(self, program: CompiledProgram) -> dict[str, CompiledKernel]:
        """The kernel of every operation of a program that has one."""
        text = _Canonical(program)
        known: dict[str, str] = {}
        outside = [(part, each) for part in program.computations.values() for each in part.instructions]
        for part, each in outside:
            if each.name in self._found:
                known.setdefault(text.of(part, each), each.name)
        matched = {}
        for part, each in outside:
            name = each.name if each.name in self._found else known.get(text.of(part, each))
            if name is not None:
                matched[each.name] = CompiledKernel(name, self._found[name])
        return matched


class _Canonical:
    """Operations as text without names: equal ones have the same."""

    def __init__(self, program: CompiledProgram):
        self._program = program
        self._bodies: dict[str, str] = {}

    def of(self, computation: Computation, each: Instruction) -> str:
        """An operation, with the shapes of what it takes and all that it calls."""
        taken = [repr(computation.by_name[name].shapes) for name in each.operands]
        return self._line(each, taken)

    def _line(self, each: Instruction, taken: list[str]) -> str:
        bodies = [self._body(name) for name in each.called("calls", "to_apply")]
        literal, rest = "" if each.operands else each.literal, _NAMES.sub("", each.rest)
        return f"{each.opcode} {each.shapes} {taken} {literal} {rest} {bodies}"

    def _body(self, name: str) -> str:
        """A computation from its root back to its parameters: the order in which it is written may differ."""
        if name not in self._bodies:
            computation = self._program.computations[name]
            places: dict[str, str] = {}
            lines: list[str] = []
            waiting = [computation.root.name]
            while waiting:
                at = computation.by_name[waiting[-1]]
                if new := [operand for operand in at.operands if operand not in places]:
                    waiting.append(new[0])
                    continue
                waiting.pop()
                if at.name not in places:
                    places[at.name] = str(len(places))
                    lines.append(self._line(at, [places[operand] for operand in at.operands]))
            self._bodies[name] = "\n".join(lines)
        return self._bodies[name]
