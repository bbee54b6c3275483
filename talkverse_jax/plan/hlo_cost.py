"""What a compiled program costs one device: products, bytes through collectives, bytes through memory.

XLA's own `cost_analysis()` counts the body of a loop once and a Pallas kernel not at all. Here loops count as often
as they run, and a kernel counts what it declares or what its name is known to cost.
"""

import dataclasses
import functools
import math
import re

from talkverse_jax.plan.hlo_loops import Value, Values, evaluate, loop_values, trip_count
from talkverse_jax.plan.hlo_memory import traffic
from talkverse_jax.plan.hlo_text import CompiledProgram, Computation, HloShape, Instruction, parse

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-broadcast",
    "collective-permute",
)

# Splash attention's kernels: products as long as a key's width, and as a value's. The backward ones make the scores
# anew: the first then gives dv and dk, the second dq.
_SPLASH = (("splash_mha_dkv", 2, 2), ("splash_mha_dq", 2, 1), ("splash_mha_fwd", 1, 1))

# bfloat16 products of one float32 product on a TPU, by the precision asked for.
_PASSES = {"default": 1, "high": 3, "highest": 6}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one device, running the program once.

    Attributes:
      flops: of matrix products, convolutions (padding not counted) and kernels; a multiply-add is two.
      bf16_flops: the same where a float32 product counts as the several bfloat16 ones a TPU makes of it, and one of
        int8, whose rate is twice as high, as half of one.
      received: bytes received from other devices, by kind of collective; an all-reduce is reckoned as the best
        one there is: every byte crosses twice, less what is at home.
      memory: bytes through main memory, at least (hlo_memory.py). Blocked products read their inputs more often.
      unknown: loops whose length is not in the program (counted once) and kernels nothing is known of (counted
        as nothing). A plan with any of them is none.
    """

    flops: float = 0.0
    bf16_flops: float = 0.0
    received: dict[str, float] = dataclasses.field(default_factory=dict)
    memory: float = 0.0
    unknown: tuple[str, ...] = ()

    @property
    def all_received(self) -> float:
        """Bytes received, whatever the collective."""
        return sum(self.received.values())

    def __add__(self, other: "Cost") -> "Cost":
        return self._joined(other, lambda a, b: a + b)

    def __mul__(self, times: float) -> "Cost":
        received = {kind: times * nbytes for kind, nbytes in self.received.items()}
        return Cost(times * self.flops, times * self.bf16_flops, received, times * self.memory, self.unknown)

    def at_most(self, other: "Cost") -> "Cost":
        """The greater of the two, figure by figure."""
        return self._joined(other, max)

    def _joined(self, other: "Cost", join) -> "Cost":
        kinds = self.received.keys() | other.received.keys()
        return Cost(
            join(self.flops, other.flops),
            join(self.bf16_flops, other.bf16_flops),
            {kind: join(self.received.get(kind, 0.0), other.received.get(kind, 0.0)) for kind in kinds},
            join(self.memory, other.memory),
            tuple(dict.fromkeys(self.unknown + other.unknown)),
        )


def program_cost(text: str) -> Cost:
    """The cost of `compiled.as_text()`, the optimised program of one device."""
    program = parse(text)
    return _computation(program, program.entry, [None] * len(program.entry.parameters), fused=False)


def instruction_cost(program: CompiledProgram, computation: Computation, instruction: Instruction) -> Cost:
    """The cost of one operation but for its memory, with all that it calls; loops and branches are none."""
    names = instruction.called("called_computations")  # what XLA:TPU has a sparse core do
    if instruction.opcode in ("call", "fusion", "async-start"):
        names += instruction.called("calls", "to_apply")[:1]
    called = [program.computations[name] for name in names]
    inside = (instruction_cost(program, each, one) for each in called for one in each.instructions)
    return sum(inside, _operation(program, computation, instruction))


def _computation(program: CompiledProgram, computation: Computation, arguments: Values, fused: bool) -> Cost:
    """Cost of running a computation once; inside a fusion nothing goes through memory."""
    total, env = Cost(), {}
    run = functools.partial(_computation, program)
    for instruction in computation.instructions:
        opcode = instruction.opcode
        value = functools.partial(evaluate, program, computation, arguments=arguments, env=env)
        if opcode == "while":
            total += _loop(program, instruction, value(instruction.operands[0]))
        elif opcode == "conditional":
            names = instruction.called("branch_computations", "true_computation", "false_computation")
            operands = instruction.operands[1:]
            branches = [
                run(program.computations[name], [value(operand)], False) for name, operand in zip(names, operands)
            ]
            total += functools.reduce(Cost.at_most, branches)
        elif opcode in ("call", "fusion", "async-start"):
            called = program.computations[instruction.called("calls", "to_apply")[0]]
            total += run(called, [value(operand) for operand in instruction.operands], fused or opcode == "fusion")
        else:
            total += instruction_cost(program, computation, instruction)
        if not fused:
            total += Cost(memory=traffic(program, computation, instruction))
    return total


def _loop(program: CompiledProgram, instruction: Instruction, initial: Value) -> Cost:
    body = program.computations[instruction.called("body")[0]]
    condition = program.computations[instruction.called("condition")[0]]
    times = trip_count(program, instruction, condition, body, initial)
    inside = loop_values(body, initial)
    cost = _computation(program, body, [inside], False) + _computation(program, condition, [inside], False)
    if times is None:
        return cost + Cost(unknown=(f"loop {instruction.name} ({instruction.op_name})",))
    return cost * times


def _operation(program: CompiledProgram, computation: Computation, instruction: Instruction) -> Cost:
    opcode = instruction.opcode
    operands = [computation.by_name[name].shape for name in instruction.operands]
    if opcode in ("dot", "convolution"):
        flops = (_dot if opcode == "dot" else _convolution)(instruction, *operands)
        return Cost(flops, flops * _passes(instruction, operands))
    if opcode == "custom-call" and '"tpu_custom_call"' in instruction.rest:
        return _kernel(instruction, operands)
    kind = opcode.removesuffix("-start")
    if kind not in COLLECTIVES or _counted_elsewhere(computation, instruction):
        return Cost()
    if computation.name.startswith("all-reduce-scatter"):  # XLA:TPU's form of a reduce-scatter
        kind = "reduce-scatter"
    return Cost(received={kind: _received(kind, instruction, operands, program.devices)})


def _counted_elsewhere(computation: Computation, instruction: Instruction) -> bool:
    """XLA:TPU spreads a collective over several fusions and repeats it in each; the first one starts it."""
    users = computation.users[instruction.name]
    return "chain_id=" in instruction.rest and not any('"AsyncCollectiveStart"' in user.rest for user in users)


def _dot(instruction: Instruction, lhs: HloShape, rhs: HloShape) -> float:
    contracted = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
    summed = math.prod(lhs.dims[int(axis)] for axis in contracted.split(",") if axis)
    return 2.0 * instruction.shape.elements * summed


def _convolution(instruction: Instruction, lhs: HloShape, rhs: HloShape) -> float:
    """Multiply-adds with a value of the input, times two: neither padding nor the gaps of dilation count.

    On a TPU every matrix product is one; batches become gaps there.
    """
    labels = instruction.needed(r"dim_labels=(\S+?->\w+)").replace("->", "_").split("_")
    inputs, kernel, output = (dict(zip(names, s.dims)) for names, s in zip(labels, (lhs, rhs, instruction.shape)))
    spatial = [label for label in kernel if label.isdigit()]
    window = {
        key: [tuple(map(int, part.split("_"))) for part in value.split("x")]
        for key, value in re.findall(r"(\w+)=([\dx_\-]+)", instruction.attribute(r"window=\{([^}]*)\}") or "")
    }
    one = [(1,)] * len(spatial)
    pairs = 1
    for index, label in enumerate(sorted(spatial, key=int)):
        stride, inner, outer = (window.get(key, one)[index][0] for key in ("stride", "lhs_dilate", "rhs_dilate"))
        low = window.get("pad", [(0, 0)] * len(spatial))[index][0]
        pairs *= _taps(inputs[label], kernel[label], output[label], stride, low, inner, outer)
    groups = int(instruction.attribute(r"batch_group_count=(\d+)") or 1)
    return 2.0 * pairs * inputs["b"] // groups * kernel["i"] * kernel["o"]


@functools.cache
def _taps(length: int, taps: int, outputs: int, stride: int, low: int, inner: int, outer: int) -> int:
    """Pairs (output, tap) of one axis that meet a value: position output*stride + tap*outer - low lies within
    (length-1)*inner and on a multiple of `inner`."""
    common = math.gcd(stride, inner)
    period, count = inner // common, 0
    for tap in range(taps):
        offset = tap * outer - low
        if offset % common:
            continue
        first = -(offset // common) * pow(stride // common, -1, period) % period if period > 1 else 0
        lowest = max(0, -(offset // stride))  # the first output at a position of 0 or more
        highest = min(outputs - 1, ((length - 1) * inner - offset) // stride)
        lowest += (first - lowest) % period
        count += max(0, (highest - lowest) // period + 1)
    return count


def _passes(instruction: Instruction, operands: list[HloShape]) -> float:
    if all(shape.dtype == "s8" for shape in operands):
        return 0.5
    if any(shape.dtype != "f32" for shape in operands):
        return 1
    precisions = (instruction.attribute(r"operand_precision=\{([\w,]+)\}") or "default").split(",")
    return max(_PASSES[precision] for precision in precisions)


def _kernel(instruction: Instruction, operands: list[HloShape]) -> Cost:
    """A Pallas kernel: its own estimate, or the splash attention of JAX, which gives none."""
    declared = instruction.attribute(r'"cost_estimate":\{[^}]*"flops":"(\d+)"')
    if declared:
        return Cost(float(declared), float(declared))
    name = f"{instruction.name} {instruction.op_name}"
    for kernel, with_keys, with_values in _SPLASH:
        if kernel in name:
            # Without a mask no block is skipped. q, k, v: [..., heads, length, width], the only operands of so many
            # axes in the inputs' type.
            q, k, v = [shape for shape in operands if len(shape.dims) >= 3 and shape.dtype not in ("s8", "s32")][:3]
            pairs = 2.0 * math.prod(q.dims[:-1]) * k.dims[-2]
            flops = pairs * (with_keys * k.dims[-1] + with_values * v.dims[-1])
            return Cost(flops, flops)
    return Cost(unknown=(f"kernel {instruction.name} ({instruction.op_name})",))


def _received(kind: str, instruction: Instruction, operands: list[HloShape], devices: int) -> float:
    nbytes = float(sum(shape.nbytes for shape in operands))
    if kind == "collective-permute":
        pairs = instruction.attribute(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}") or ""
        moves = any(source != target for source, target in re.findall(r"\{(\d+),(\d+)\}", pairs))
        return nbytes if moves else 0.0
    if kind == "collective-broadcast":
        return nbytes
    group = _group_size(instruction, devices)
    if kind == "all-gather":
        return nbytes * (group - 1)
    return nbytes * (group - 1) / group * (2 if kind == "all-reduce" else 1)


def _group_size(instruction: Instruction, devices: int) -> int:
    """Devices that exchange with each other.

    Written `{{0,1},{2,3}}`, `[groups,size]<=[...]` or `mesh['x'=2,'y'=4] {'y'}` (of an axis perhaps a part,
    `'y':(1)2`); `{}` are all.
    """
    listed = instruction.attribute(r"replica_groups=\{\{([\d,]+)\}")
    if listed:
        return listed.count(",") + 1
    grid = instruction.attribute(r"replica_groups=\[([\d,]+)\]<=")
    if grid:
        return int(grid.split(",")[-1])
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", instruction.rest)
    if mesh is None:
        return devices
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh.group(1)))
    axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2))
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
