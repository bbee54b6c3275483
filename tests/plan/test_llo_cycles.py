"""Cycles of kernels' schedules against what is counted by hand."""

import pytest

from talkverse_jax.plan.llo_cycles import cycles
from talkverse_jax.plan.llo_text import parse

# As XLA:TPU writes it: a loop of five passes around three bundles and the branch's four, of which one runs only where
# the counter is below 2.
LOOP = """\
= control target key start
LB: loop body
= control target key end

     0   :  { %s10_s0 = smov.u32 0 /* copy for cssa */  ;;  %v1_v0 = vimm.f32 0.0 }
   0x1 LB: > { %s12_s1 = sphi %s10_s0, %s13_s1 /* phi copy :: iteration
index */  ;;  %v2_v1 = vld [vmem:[#allocation3] sm:$0xff] } /* Start region 7 */
   0x2   : > { %s13_s1 = sadd.s32 1, %s12_s1  ;;  %p14_p0 = scmp.ge.s32.totalorder %s12_s1, 2 }
   0x3   : > { %15 = sbr.rel (%p14_p0) target = $region9 }
   0x4   : > {}
   0x5   : > {}
   0x6   : > {}
   0x7   : > {}
   0x8 PB: > { %v3_v2 = vadd.f32 %v2_v1, %v1_v0 }
   0x9   : > { %v4_v2 = vadd.f32 %v3_v2, %v1_v0 } /* End region 8 */
   0xa PF: > { %p16_p1 = scmp.ge.s32.totalorder %s13_s1, 5 /* loop exit test */ } /* Start/End empty region 9 */
   0xb   : > { %17 = sbr.rel (!%p16_p1) target = $region7 }
   0xc   : > {}
   0xd   : > {}
   0xe   : > {}
   0xf   : > {}
  0x10   :  { %18 = vsyncpa [#allocation4], 1 }
"""


def test_loops_and_what_is_jumped_over():
    # The first bundle and the last; five passes of 7 bundles up to the jump and 6 behind it, two of which run 2 more.
    assert cycles(parse(LOOP)) == (1 + 5 * (7 + 6) + 2 * 2 + 1, 0)


def test_bundles_of_a_loop_within_a_loop():
    """They have a mark for each."""
    assert cycles(parse(LOOP.replace(": > {", ": >> {").replace("LB: > {", "LB: >> {"))) == cycles(parse(LOOP))


def test_a_counter_that_was_spilled():
    spilled = (
        LOOP.replace("%s12_s1 = sphi %s10_s0, %s13_s1", "%s12_s1 = sld [smem:[#allocation9_spill]]")
        .replace("%s10_s0 = smov.u32 0", "%19 = sst [smem:[#allocation9_spill]] 0")
        .replace("   0x9   : > {", "   0x9   : > { %20 = sst [smem:[#allocation8]] %s13_s1  ;;")
        .replace("   0xb   : > {", "   0xb   : > { %21 = sst [smem:[#allocation9_spill]] %s13_s1  ;;")
    )
    assert cycles(parse(spilled)) == cycles(parse(LOOP))


@pytest.mark.parametrize("change, count", [("(!%p16_p1)", 71), ("(%p16_p1)", 1 + 15 + 1)])
def test_a_branch_hangs_on_its_predicate(change, count):
    assert cycles(parse(LOOP.replace("(!%p16_p1)", change))).count == count


def test_what_hangs_on_data_counts_as_not_jumped():
    unknown = LOOP.replace("scmp.ge.s32.totalorder %s12_s1, 2", "scmp.ge.s32.totalorder %s99_s5, 2")
    assert cycles(parse(unknown)) == (1 + 5 * 15 + 1, 1)


@pytest.mark.parametrize("compared, begin", [("0", 1), ("1", 0)])
def test_a_number_that_stays_where_a_predicate_is_false(compared, begin):
    """The counter begins at 0, or at 1 where the predicate holds."""
    chosen = LOOP.replace(
        "%s10_s0 = smov.u32 0 /* copy for cssa */",
        f"%p8_p4 = scmp.eq.s32.totalorder {compared}, 0  ;;  %s10_s0 = smov.u32 1 }}\n"
        "   0x0   :  { %s9_s0 = smov.u32 (%p8_p4, 0), %s10_s0",
    ).replace("sphi %s10_s0", "sphi %s9_s0")
    passes, early = 5 - begin, 2 - begin
    assert cycles(parse(chosen)) == (2 + passes * (7 + 6) + early * 2 + 1, 0)


def test_a_schedule_without_an_end_is_told():
    endless = LOOP.replace("%s13_s1 = sadd.s32 1, %s12_s1", "%s13_s1 = sadd.s32 0, %s12_s1")
    with pytest.raises(ValueError, match="does not end"):
        cycles(parse(endless), most=1000)
