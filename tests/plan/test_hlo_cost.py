"""Counts of compiled programs against what they must be."""

import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from talkverse_jax.plan.hlo_cost import Cost, program_cost
from talkverse_jax.plan.hlo_loops import trip_count
from talkverse_jax.plan.hlo_memory import largest_buffers
from talkverse_jax.plan.hlo_text import parse
from talkverse_jax.sharding import topologies

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


def _text(function, *args) -> str:
    return jax.jit(function).lower(*args).compile().as_text()


def _float(*shape, dtype=jnp.float32, sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_matrix_product(dtype):
    text = _text(jnp.matmul, _float(32, 64, dtype=dtype), _float(64, 48, dtype=dtype))
    assert program_cost(text).flops == 2 * 32 * 64 * 48


def test_a_batched_einsum():
    text = _text(partial(jnp.einsum, "blnk,bsnk->bnls"), _float(2, 16, 4, 8), _float(2, 24, 4, 8))
    assert program_cost(text).flops == 2 * (2 * 4) * 16 * 24 * 8


@pytest.mark.parametrize("precision, passes", [("default", 1), ("high", 3), ("highest", 6)])
def test_precision_multiplies_what_a_tpu_computes(precision, passes):
    cost = program_cost(_text(partial(jnp.matmul, precision=precision), _float(32, 64), _float(64, 48)))
    assert cost.bf16_flops == passes * cost.flops == passes * 2 * 32 * 64 * 48


def test_an_int8_product_is_half_of_one():
    text = """HloModule product, is_scheduled=true

ENTRY %main (x: s8[32,64], y: s8[64,48]) -> s32[32,48] {
  %x = s8[32,64]{1,0} parameter(0)
  %y = s8[64,48]{1,0} parameter(1)
  ROOT %dot = s32[32,48]{1,0} dot(%x, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
    cost = program_cost(text)
    assert (cost.flops, cost.bf16_flops) == (2 * 32 * 64 * 48, 32 * 64 * 48)


def _pairs(length: int, taps: int, stride: int, low: int, high: int) -> int:
    """Pairs (output, tap) on one axis that meet a value, one by one."""
    outputs = (length + low + high - taps) // stride + 1
    return sum(0 <= o * stride + t - low < length for o in range(outputs) for t in range(taps))


@pytest.mark.parametrize("stride, padding", [(1, ((1, 1), (1, 1))), (2, ((0, 1), (0, 1))), (3, ((2, 0), (0, 0)))])
def test_a_2d_convolution(stride, padding):
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    cost = program_cost(_text(convolve, _float(2, 20, 17, 5), _float(3, 3, 5, 7)))
    rows, columns = (_pairs(n, 3, stride, *pad) for n, pad in zip((20, 17), padding))
    assert cost.flops == 2 * 2 * 5 * 7 * rows * columns


def test_a_3d_convolution():
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=(2, 1, 1),
        padding=((0, 0), (1, 1), (1, 1)),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    cost = program_cost(_text(convolve, _float(1, 7, 8, 9, 4), _float(3, 3, 3, 4, 6)))
    assert cost.flops == 2 * 4 * 6 * (3 * 3) * (3 * 8 - 2) * (3 * 9 - 2)


def test_a_grouped_and_a_transposed_convolution():
    grouped = partial(
        lax.conv_general_dilated,
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=4,
    )
    assert program_cost(_text(grouped, _float(1, 20, 16), _float(5, 4, 16))).flops == 2 * 16 * (5 * 4 * 16)
    transposed = partial(lax.conv_transpose, strides=(2,), padding="VALID", dimension_numbers=("NWC", "WIO", "NWC"))
    # Every input meets every tap once; the gaps between inputs are no work.
    assert program_cost(_text(transposed, _float(1, 20, 6), _float(4, 6, 3))).flops == 2 * 20 * 4 * 6 * 3


def test_a_scan_and_a_loop_within():
    def step(x, w):
        x = lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ w), x)
        return jnp.tanh(x @ w), None

    cost = program_cost(_text(lambda x, ws: lax.scan(step, x, ws)[0], _float(8, 16), _float(5, 16, 16)))
    assert cost.flops == 5 * 4 * (2 * 8 * 16 * 16)
    assert cost.unknown == ()


def test_the_longer_branch_counts():
    def either(p, x):
        return lax.cond(p, lambda x: x @ x, lambda x: jnp.sin(x @ x) @ x, x)

    cost = program_cost(_text(either, jax.ShapeDtypeStruct((), bool), _float(16, 16)))
    assert cost.flops == 2 * (2 * 16**3)


def test_a_loop_of_unknown_length_is_said():
    def f(n, x):
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] @ c[1]), (0, x))[1]

    cost = program_cost(_text(f, jax.ShapeDtypeStruct((), jnp.int32), _float(16, 16)))
    assert cost.flops == 2 * 16**3 and "loop" in cost.unknown[0]


@pytest.mark.parametrize(
    "start, direction, bound, step, times", [(0, "LT", 7, 1, 7), (2, "LE", 9, 3, 3), (5, "GT", 0, -2, 3)]
)
def test_loops_are_counted_from_their_condition(start, direction, bound, step, times):
    """As XLA:TPU writes them; the bound comes in through the loop's tuple."""
    program = parse(f"""HloModule m

%body (p: (s32[], s32[])) -> (s32[], s32[]) {{
  %p = (s32[], s32[]) parameter(0)
  %step = s32[]{{:T(128)}} constant({step})
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  %next = s32[] add(%i, %step)
  ROOT %t = (s32[], s32[]) tuple(%next, %n)
}}

%condition (p.1: (s32[], s32[])) -> pred[] {{
  %p.1 = (s32[], s32[]) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %n.1 = s32[] get-tuple-element(%p.1), index=1
  ROOT %c = pred[] compare(%i.1, %n.1), direction={direction}
}}

ENTRY %main (x: s32[]) -> (s32[], s32[]) {{
  %x = s32[] parameter(0)
  %start = s32[] constant({start})
  %copy = s32[] copy(%start)
  %n.2 = s32[] constant({bound})
  %t.1 = (s32[], s32[]) tuple(%copy, %n.2)
  ROOT %w = (s32[], s32[]) while(%t.1), condition=%condition, body=%body
}}
""")
    loop = program.entry.root
    bodies = [program.computations[name] for name in ("condition", "body")]
    assert trip_count(program, loop, *bodies, (start, bound)) == times


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))


def _sharded(mesh, function, *shape):
    """Compile a function of one device's part of a float32 array."""
    whole = jax.shard_map(function, mesh=mesh, in_specs=P(("a", "b")), out_specs=P(("a", "b")), check_vma=False)
    return _text(whole, _float(*shape, sharding=NamedSharding(mesh, P(("a", "b")))))


PART = 4 * 16 * 64  # bytes of [16, 64] float32, a device's part of [128, 64]


@pytest.mark.parametrize(
    "function, kind, nbytes",
    [
        (lambda x: lax.psum(x, "b"), "all-reduce", 2 * PART * 3 / 4),
        (lambda x: lax.all_gather(x, "b", tiled=True), "all-gather", 3 * PART),
        (lambda x: lax.all_gather(x, ("a", "b"), tiled=True), "all-gather", 7 * PART),
        (lambda x: lax.psum_scatter(x, "b", tiled=True), "reduce-scatter", PART * 3 / 4),
        (lambda x: lax.all_to_all(x, "b", 1, 0, tiled=True), "all-to-all", PART * 3 / 4),
        (lambda x: lax.ppermute(x, "b", [(i, (i + 1) % 4) for i in range(4)]), "collective-permute", PART),
    ],
)
def test_bytes_through_collectives(mesh, function, kind, nbytes):
    assert program_cost(_sharded(mesh, function, 128, 64)).received == {kind: nbytes}

    def repeated(x):
        return lax.fori_loop(0, 5, lambda _, y: jnp.tanh(function(y).ravel()[: x.size].reshape(x.shape)), x)

    if kind != "reduce-scatter":  # its result is smaller than what goes in
        assert program_cost(_sharded(mesh, repeated, 128, 64)).received == {kind: 5 * nbytes}


GROUPS = ["{{0,1,2,3},{4,5,6,7}}", "[2,4]<=[8]", "[2,4]<=[4,2]T(1,0)", "mesh['x'=2,'y'=4] {'y'}"]


@pytest.mark.parametrize("groups", [*GROUPS, "mesh['x'=8] {'x':(2)4}"])
def test_every_way_to_write_groups(groups):
    text = f"""HloModule m, num_partitions=8

ENTRY %main (x: f32[8,4]) -> f32[32,4] {{
  %x = f32[8,4]{{1,0:T(8,128)}} parameter(0)
  ROOT %g = f32[32,4]{{1,0:T(8,128)}} all-gather(%x), channel_id=1, replica_groups={groups}, dimensions={{0}}
}}
"""
    assert program_cost(text).received == {"all-gather": 3 * 8 * 4 * 4}


def test_memory_of_a_slice_is_the_slice():
    """A loop that updates one row a pass moves rows, not the array each time."""

    def rows(x):
        return lax.fori_loop(
            0, 64, lambda i, y: lax.dynamic_update_slice(y, 2 * lax.dynamic_slice(y, (i, 0), (1, 256)), (i, 0)), x
        )

    cost = program_cost(_text(rows, _float(64, 256)))
    array = 64 * 256 * 4
    assert 2 * array <= cost.memory < 6 * array  # read and written once, and copied at the start


def test_memory_of_an_asynchronous_slice_is_the_slice():
    text = """HloModule m

ENTRY %main (x: s8[4096]) -> s8[512] {
  %x = s8[4096]{0:T(1024)} parameter(0)
  %start = ((s8[4096]{0:T(1024)}), s8[1024]{0:T(1024)S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:1024]}
  ROOT %done = s8[1024]{0:T(1024)S(1)} slice-done(%start)
}
"""
    assert program_cost(text).memory == 1024  # read; what it writes is vector memory


def test_memory_of_a_product_is_its_arrays():
    cost = program_cost(_text(jnp.matmul, _float(32, 64), _float(64, 48)))
    assert cost.memory == 4 * (32 * 64 + 64 * 48 + 32 * 48)


def test_the_largest_buffers_and_where_they_come_from():
    def f(x, w):
        with jax.named_scope("widen"):
            y = x @ w
        return jnp.sort(y, axis=-1)[:, :1]

    first, *_ = largest_buffers(_text(f, _float(64, 8), _float(8, 512)))
    assert (first.nbytes, first.shape) == (64 * 512 * 4, "f32[64,512]")
    assert any("widen" in buffer.op_name for buffer in largest_buffers(_text(f, _float(64, 8), _float(8, 512))))


def test_costs_add_up():
    one, other = Cost(1, 2, {"all-gather": 3}, 4, ("x",)), Cost(10, 20, {"all-to-all": 30}, 40, ("x", "y"))
    both = one * 2 + other
    assert (both.flops, both.memory, both.unknown) == (12, 48, ("x", "y"))
    assert both.received == {"all-gather": 6, "all-to-all": 30}
    assert one.at_most(other).received == {"all-gather": 3, "all-to-all": 30}


def _tpu_mesh():
    return Mesh(np.array(topologies.devices(topologies.find("v5e-8"))).reshape(2, 4), ("a", "b"))


@needs_libtpu
def test_a_tpu_program_costs_the_same():
    """There every product is a convolution and no loop says its length."""

    def step(x, w):
        x = lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ w), x)
        scores = jnp.einsum("blnk,bsnk->bnls", *[x.reshape(2, 64, 2, 64)] * 2)
        return x + jnp.einsum("bnls,bsnk->blnk", scores, x.reshape(2, 64, 2, 64)).reshape(x.shape), None

    args = [_float(128, 128), _float(5, 128, 128)]
    replicated = NamedSharding(_tpu_mesh(), P())
    placed = [_float(*x.shape, sharding=replicated) for x in args]
    expected = 5 * (3 * 2 * 128**3 + 2 * 2 * (2 * 2) * 64 * 64 * 64)
    for inputs in (args, placed):
        cost = program_cost(_text(lambda x, ws: lax.scan(step, x, ws)[0], *inputs))
        assert (cost.flops, cost.unknown) == (expected, ())


@needs_libtpu
def test_an_asynchronous_gather_of_a_tpu_counts_once():
    """XLA:TPU spreads it over three fusions; a reduce-scatter is an all-reduce in a fusion."""
    mesh = _tpu_mesh()

    def f(x, weights):
        for w in weights:
            x = jnp.tanh(x @ lax.all_gather(w, "b", tiled=True))
        return lax.psum_scatter(x, "b", tiled=True)

    specs = dict(in_specs=(P(("a", "b")), [P("b")] * 3), out_specs=P(("a", "b")), check_vma=False)
    part, width = 512, 1024
    sharded = partial(_float, dtype=jnp.bfloat16)
    x = sharded(8 * part, width, sharding=NamedSharding(mesh, P(("a", "b"))))
    w = sharded(width, width, sharding=NamedSharding(mesh, P("b")))
    text = _text(jax.shard_map(f, mesh=mesh, **specs), x, [w] * 3)
    received = program_cost(text).received
    assert "AsyncCollectiveStart" in text  # or the test shows nothing
    assert received["all-gather"] == 3 * width * width * 2 * 3 / 4
    assert received["reduce-scatter"] == pytest.approx(part * width * 2 * 3 / 4, rel=0.1)  # padded to tiles


@needs_libtpu
def test_kernels_count_what_they_declare():
    from jax.experimental import pallas as pl

    mesh = _tpu_mesh()
    x = _float(256, 256, sharding=NamedSharding(mesh, P()))

    def cost(estimate):
        def kernel(x, out):
            out[...] = 2 * x[...]

        call = pl.pallas_call(kernel, out_shape=_float(256, 256), cost_estimate=estimate)
        specs = dict(in_specs=P(), out_specs=P(), check_vma=False)
        return program_cost(_text(jax.shard_map(call, mesh=mesh, **specs), x))

    assert cost(pl.CostEstimate(flops=123456, bytes_accessed=0, transcendentals=0)).flops == 123456
    silent = cost(None)
    assert silent.flops == 0 and "kernel" in silent.unknown[0]


@needs_libtpu
@pytest.mark.parametrize("order", ['"flops":"12","bytes_accessed":"3"', '"bytes_accessed":"3","flops":"12"'])
def test_a_kernel_counts_what_it_declares(order):
    config = f'backend_config={{"custom_call_config":{{"cost_estimate":{{{order}}}}}}}'
    call = f'ROOT %k = f32[8]{{0}} custom-call(%p), custom_call_target="tpu_custom_call", {config}'
    text = f"HloModule m\n\nENTRY %main (p: f32[8]) -> f32[8] {{\n  %p = f32[8]{{0}} parameter(0)\n  {call}\n}}\n"
    assert program_cost(text).flops == 12


@pytest.mark.parametrize("rows", ["", "3,"])
def test_splash_attention_in_a_batch(rows):
    q, k, out = (f"bf16[{rows}4,{n},128]" for n in (512, 1024, 512))
    call = f'ROOT %splash_mha_fwd = {out} custom-call(%i, %q, %k, %k), custom_call_target="tpu_custom_call"'
    parameters = f"%i = s8[1,2,1] parameter(0)\n  %q = {q} parameter(1)\n  %k = {k} parameter(2)"
    text = f"HloModule m\n\nENTRY %main (i: s8[1,2,1], q: {q}, k: {k}) -> {out} {{\n  {parameters}\n  {call}\n}}\n"
    assert program_cost(text).flops == (3 if rows else 1) * 4 * 4 * 512 * 1024 * 128


def test_splash_attention_counts_its_products():
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    mesh, heads, queries, keys, width = _tpu_mesh(), 4, 512, 1024, 128
    mask = masks.MultiHeadMask([masks.FullMask((queries, keys)) for _ in range(heads)])
    kernel = splash.make_splash_mha_single_device(mask=mask)
    specs = dict(in_specs=P("a"), out_specs=P("a"), check_vma=False)
    call = jax.shard_map(jax.vmap(kernel), mesh=mesh, **specs)
    q, k = (_float(2, heads, n, width, sharding=NamedSharding(mesh, P("a"))) for n in (queries, keys))
    cost = program_cost(_text(call, q, k, k))
    assert (cost.flops, cost.unknown) == (4 * heads * queries * keys * width, ())
    # backwards the scores twice more, and one product each for dv, dk, dq and twice for the weights' gradient
    back = jax.grad(lambda *x: call(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    cost = program_cost(_text(back, q, k, k))
    assert (cost.flops, cost.unknown) == ((4 + 8 + 6) * heads * queries * keys * width, ())


def test_an_element_of_a_tuple_has_a_short_name():
    """As XLA of JAX 0.12 writes it."""
    cost = program_cost(
        """HloModule jit_f, num_partitions=1

%body (p: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %p = (s32[], f32[4,4]{1,0}) parameter(0)
  %one = s32[] constant(1)
  %next = s32[] add(%p#0, %one)
  %dot = f32[4,4]{1,0} dot(%p#1, %p#1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %tuple = (s32[], f32[4,4]{1,0}) tuple(%next, %dot)
}

%condition (q: (s32[], f32[4,4])) -> pred[] {
  %q = (s32[], f32[4,4]{1,0}) parameter(0)
  %times = s32[] constant(5)
  ROOT %less = pred[] compare(%q#0, %times), direction=LT
}

ENTRY %main (x: f32[4,4]) -> f32[4,4] {
  %x = f32[4,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4,4]{1,0}) tuple(%zero, %x)
  %while = (s32[], f32[4,4]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[4,4]{1,0} get-tuple-element(%while), index=1
}
"""
    )
    assert cost.flops == 5 * 2 * 4**3 and cost.unknown == ()
