"""Kernels are counted from the text of their bundles: loops, conditions, multipliers and copies."""

import dataclasses

import pytest

from benchmarks import bundles, chips

V5E, V6E, V4 = (chips.read_chip(name) for name in ("v5e", "v6e", "v4"))

# A loop of 5 around one of 7, each ending in a branch with four bundles in its delay slots, and a copy to HBM.
NESTED = """= control target key start
LB: loop body
= control target key end

     0   :  { %s10_s0 = smov 0 /* copy for cssa */ }
   0x1 LB: > { %s20_s1 = smov 0  ;;  %s11_s0 = sphi %s10_s0, %s13_s0 /* phi copy */ } /* Start region 5 */
   0x2 LB: >> { %v1_v0 = vld [vmem:[#allocation5 + $0x38] sm:$0xff]  ;;  \
  %s21_s1 = sphi %s20_s1, %s22_s1 /* phi copy */ } \
/* Start region 6 :: Start region 9 :: End region 9 */
   0x3   : >> { %30 = vmatmul.bf16.gmra.mxu0 %v1_v0  ;;  %s22_s1 = sadd.s32 1, %s21_s1 }
   0x4   : >> { %31 = vmatmul.bf16.gmra.mxu0 %v1_v0  ;;  %32 = vmatmul.f32.gmra.mxu1 %v1_v0  ;;  \
%p1_p0 = scmp.ge.s32.totalorder %s22_s1, 7 /* loop exit test */ }
   0x5   : >> { %40 = sbr.rel (!%p1_p0) target = $region6  ;;  %s13_s0 = sadd.s32 (%p1_p0), 1, %s11_s0 }
   0x6   :  {}
   0x7   :  {}
   0x8   :  {}
   0x9   : >> { %33 = vst [vmem:[%s9_s3] sm:$0xff] /*vst_source=*/%v1_v0 } /* End region 6 */
   0xa   : > { %p2_p1 = scmp.ge.s32.totalorder %s13_s0, 5 /* loop exit test */ }
   0xb   :  { %41 = sbr.rel (!%p2_p1) target = $region5 }
   0xc   :  {}
   0xd   :  {}
   0xe   :  {}
   0xf   :  {} /* End region 5 */
  0x10   :  { %50 = dma.vmem_to_hbm [thread:$0]  /*vmem=*/%s9_s3, /*size_in_granules=*/1280, /*hbm=*/%s8_s4 /*
base_bounds: (5, 2, 1)
second_minor_factor: 1 */ } /* exit bundle: %k.1 = custom-call(%a) */
"""

# The loop of a grid of 3: its first round only fetches, its last only waits, a spilled number counts the rounds, and
# a block is fetched anew only where it is another.
GRID = """     0   :  { %s1_s5 = inlined_call_operand.hbm [shape: bf16[8,8], index: 0]  ;;  %s2_s0 = smov 0 }
   0x1   :  { %90 = sst [smem:[#allocation7_spill]] %s2_s0  ;;  %s3_s1 = smov 0 }
   0x2 LB: > { %s4_s2 = sld [smem:[#allocation7_spill]]  ;;  %s5_s1 = sphi %s3_s1, %s6_s1 } /* Start region 1 */
   0x3   : > { %p1_p0 = scmp.lt.s32.totalorder %s4_s2, 3  ;;  %p2_p1 = scmp.ge.s32.totalorder %s4_s2, 1 }
   0x4   : > { %91 = dma.hbm_to_vmem [thread:$0]  (%p1_p0), /*hbm=*/%s1_s5, /*size_in_granules=*/16, /*vmem=*/%s7_s6 }
   0x5   : > { %p3_p2 = scmp.lt.s32.totalorder %s4_s2, 4  ;;  %s6_s1 = sadd.s32 1, %s5_s1 }
   0x6   : > { %p4_p3 = pnand %p2_p1, %p3_p2  ;;  %s20_s7 = smov (!%p1_p0, %s4_s2), 100 }
   0x7   : > { %92 = sbr.rel (%p4_p3) target = $region2  ;;  %93 = sst [smem:[#allocation7_spill]] %s6_s1 }
   0x8   :  {}
   0x9   : > { %94 = vmatmul.mubr.bf16.gmra.mxu1 %v1_v0 }
   0xa   : > { %95 = vst [vmem:[%s9_s3] sm:$0xff] /*vst_source=*/%v1_v0 }
   0xb PF: > { %p5_p4 = scmp.ge.s32.totalorder %s6_s1, 5 /* loop exit test */ } /* Start/End empty region 2 */
   0xc   :  { %96 = sbr.rel (!%p5_p4) target = $region1 }
   0xd   :  {} /* End region 1 */
"""


def count(text, chip=V5E, **changes):
    return bundles.count_kernel(text, dataclasses.replace(chip, **changes))


def test_nested_loops_count_as_often_as_they_run():
    found = count(NESTED)
    assert [(loop.depth, loop.trips, loop.bundles) for loop in found.loops] == [(0, 1, 2), (1, 5, 35), (2, 35, 280)]
    # Two bfloat16 tiles of 16 rows keep a multiplier busy for longer than the 8 bundles of a round.
    assert [loop.multiplier for loop in found.loops] == [0, 0, 35 * 2 * 16]
    assert found.hbm_bytes == 1280 * 32 and found.hbm_cycles == 75
    assert found.cycles == 2 + 35 + 35 * 32 and not found.unread


def test_a_kernel_takes_no_less_than_its_copies():
    found = count(NESTED.replace("/1280,", "/1280000,"))
    assert found.cycles == found.hbm_cycles == 75_018


def test_float32_rows_and_wider_multipliers():
    def multiplier(text, chip=V5E):
        return count(text, chip, delay_slots=4).loops[-1].multiplier / 35

    assert multiplier(NESTED.replace("vmatmul.bf16", "vmatmul.f32")) == 16
    assert multiplier(NESTED, V6E) == 16
    # Weights, too, take a multiplier's time: 4 cycles for each 16 rows.
    pushes = "  ;;  ".join(["%60 = vmatpush.bf16.msra.mxu0 %v1_v0"] * 9)
    assert multiplier(NESTED.replace("%31 = ", f"{pushes}  ;;  %31 = ")) == 36
    assert multiplier(NESTED.replace("%31 = ", f"{pushes}  ;;  %31 = "), V4) == 9 * 8


def test_a_condition_passes_over_what_it_says():
    found = count(GRID, delay_slots=1)
    outside, loop = found.loops
    # Five rounds of 12 bundles, of which two pass over two.
    assert (outside.bundles, loop.trips, loop.bundles) == (2, 5, 5 * 12 - 2 * 2)
    assert loop.multiplier == 3 * 16
    assert found.hbm_bytes == 3 * 16 * 32


def test_of_two_cores_the_busiest_counts_and_both_move_bytes():
    v5p = chips.read_chip("v5p")
    # The first core's rounds begin at 0, the second's at 3.
    shared = NESTED.replace("%s10_s0 = smov 0", "%s10_s0 = sld [smem:[#allocation0]] /* core id */")
    shared = shared.replace("%s20_s1 = smov 0", "%s20_s1 = smov 3")
    found = count(shared, v5p)
    assert [loop.trips for loop in found.loops] == [1, 5, 5 * 4] and found.hbm_bytes == 2 * 1280 * 32
    alone = "%s10_s0 = sld [smem:[#allocation0]] /* core id */"
    assert count(NESTED.replace("%s10_s0 = smov 0", alone), V5E).cycles == count(NESTED).cycles


def test_delay_slots_are_the_chip_s():
    longer = GRID + "   0xe   :  {}\n   0xf   :  {}\n"
    assert count(longer, delay_slots=1).loops[0].bundles == 4
    # With three, the branch passes over nothing, and the loop is longer by two.
    assert count(longer, delay_slots=3).loops[1].bundles == 5 * 14


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ("%s13_s0, 5 /*", "%s13_s0, %s99_s9 /*"),  # a bound that is an argument
        ("smov 0 /* copy for cssa */ }", "sld [smem:[#allocation3]] }"),  # a start that is
        ("sadd.s32 1, %s21_s1", "sfancy.s32 1, %s21_s1"),  # an operation that is not known here
    ],
)
def test_trips_that_cannot_be_read_are_an_error(known, unknown):
    assert known in NESTED
    with pytest.raises(bundles.UnknownTripsError, match=r"sbr\.rel"):
        count(NESTED.replace(known, unknown))


def test_a_condition_that_only_the_chip_knows_is_told_and_its_part_counted():
    text = GRID.replace("%p2_p1 = scmp.ge.s32.totalorder %s4_s2, 1", "%p2_p1 = scmp.ge.s32.totalorder %s88_s8, 1")
    found = count(text, delay_slots=1)
    assert found.loops[1].bundles == 4 * 12 + 10  # in the last round the other half decides
    assert len(found.unread) == 1 and "$region2" in found.unread[0]


def test_a_loop_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr("benchmarks.bundles.scalars.STEPS", 1000)
    with pytest.raises(bundles.UnknownTripsError, match="not ended"):
        count(NESTED.replace("sadd.s32 1, %s21_s1", "sadd.s32 0, %s21_s1"))


def test_a_missing_line_is_an_error():
    with pytest.raises(ValueError, match="bundle 8 after 7"):
        count(NESTED.replace("   0x7   :  {}\n", ""))


def test_files_of_kernels(tmp_path):
    for name in ("1-rmab.1-01-final_bundles.txt", "1-rmab.1-00-schedule-analysis_final_bundles.txt"):
        (tmp_path / name).write_text(NESTED)
    (tmp_path / "1-<late-finalization>-01-final_bundles.txt").write_text("")
    shared = "key:rmab.1\nordinal:5\nequivalent_hlos[size=2]:\n  rmab.1\n  rmab.7\nkey:add.3\nordinal:6\n"
    (tmp_path / "1-TLP-00-deduplication-map.txt").write_text(shared + "equivalent_hlos[size=1]:\n  add.3\n")
    found = bundles.kernel_files(tmp_path)
    assert {name: path.name for name, path in found.items()} == dict.fromkeys(
        ("rmab.1", "rmab.7"), "1-rmab.1-01-final_bundles.txt"
    )
    (tmp_path / "1-rmab.1-01-final_bundles.txt").write_text(NESTED.replace("%s13_s0, 5 /*", "%s13_s0, %s99_s9 /*"))
    with pytest.raises(bundles.UnknownTripsError, match=r"^1-rmab\.1-01"):
        bundles.count_file(found["rmab.7"], V5E)


@pytest.mark.parametrize("name", chips.names())
def test_facts_of_a_chip_agree(name):
    chip = chips.read_chip(f"{name}:2x2")
    assert chip.flops_per_cycle * chip.clock_ghz * 1e9 == pytest.approx(chip.peak_tflops * 1e12, rel=2e-3)
    assert chip.sources


def test_facts_of_v5e():
    assert V5E.flops_per_cycle == 131_072 and V5E.hbm_bytes_per_cycle == pytest.approx(546)


def test_all_reduce():
    size = 39e6
    # Of four chips in a square each has two links of 50 GB/s in each direction, and sends 3/4 of the bytes twice.
    assert V5E.all_reduce_cycles(size, (2, 2)) == pytest.approx(2 * size * 0.75 / 100e9 * 1.5e9)
    assert V5E.all_reduce_cycles(size, (16, 16)) == pytest.approx(2 * size * (255 / 256) / 200e9 * 1.5e9)
    assert V5E.all_reduce_cycles(size, (1, 1)) == 0
