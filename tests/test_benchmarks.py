"""The benchmark programs run on tiny sizes, and what they count is counted rightly; no test looks at a time."""

import argparse
import json
import os
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from benchmarks import chips, flops, hlo, measure, traffic
from tests.samples import save_noise, save_workdir, tiny_parameters

PROGRAM = """HloModule step, is_scheduled=true

%body (p: (f32[8,4])) -> (f32[8,4]) {
  %p = (f32[8,4]{1,0}) parameter(0)
  %f1 = f32[8,4]{1,0:T(8,128)} fusion(%p), kind=kLoop, calls=%c, metadata={op_name="jit(step)/jvp(attention)/exp"}, \
backend_config={"estimated_cycles":"100"}
  ROOT %t = (f32[8,4]{1,0}) tuple(%f1)
}

%cond (q: (f32[8,4])) -> pred[] {
  %n = s32[]{:T(128)} constant(4)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %w = (f32[8,4]{1,0}) while(%a), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"16"},"estimated_cycles":"7"}
  %r = (bf16[2,3]{1,0}, f32[5]{0}) all-reduce(%x, %y), replica_groups={}, to_apply=%add
  ROOT %f2 = f32[8,4]{1,0} fusion(%w), kind=kLoop, calls=%c, metadata={op_name="jit(step)/add"}, \
backend_config={"estimated_cycles":"30"}
}
"""


def runs_of(text):
    """How often each instruction runs."""
    return {instruction.name: times for instruction, times, _ in hlo.read_module(text).walk()}


def test_instructions_of_a_loop_count_as_often_as_it_runs():
    assert {name: times for name, times in runs_of(PROGRAM).items() if name in ("f1", "f2")} == {"f1": 16, "f2": 1}
    # As in programs for TPU: only the condition tells.
    without = PROGRAM.replace('"known_trip_count":{"n":"16"},', "")
    assert without != PROGRAM and runs_of(without)["f1"] == 4


def test_collectives_bytes():
    assert hlo.collectives(hlo.read_module(PROGRAM)) == {"all-reduce": {"count": 1, "bytes": 2 * 3 * 2 + 5 * 4}}


def test_walk_reads_the_text_of_this_jax():
    def loop(x):
        return jax.lax.fori_loop(0, 5, lambda _, x: jnp.sin(x @ x), x)

    text = jax.jit(loop).lower(jnp.ones((8, 8))).compile().as_text()
    walked = hlo.read_module(text).walk()
    assert {times for instruction, times, _ in walked if instruction.op_name.endswith("/sin")} == {5}


def test_a_loop_of_unknown_length_is_an_error():
    text = PROGRAM.replace('"known_trip_count":{"n":"16"},', "").replace("constant(4)", "parameter(1)")
    with pytest.raises(ValueError, match=r"^w: .* how often"):
        runs_of(text)


TRAFFIC = """HloModule step, is_scheduled=true

%slices (p: f32[9,3,64], q: f32[8,64], n: s32[]) -> f32[9,3,64] {
  %p = f32[9,3,64]{2,1,0:T(4,128)} parameter(0)
  %q = f32[8,64]{1,0:T(8,128)} parameter(1)
  %n = s32[] parameter(2)
  %s = f32[1,3,64]{2,1,0:T(4,128)} dynamic-slice(%p, %n), dynamic_slice_sizes={1,3,64}
  %u = f32[1,3,64]{2,1,0:T(4,128)} add(%s, %s)
  ROOT %d = f32[9,3,64]{2,1,0:T(4,128)} dynamic-update-slice(%p, %u, %n)
}

ENTRY %main (a: f32[9,3,64], b: f32[8,64]) -> f32[9,3,64] {
  %a = f32[9,3,64]{2,1,0:T(4,128)} parameter(0)
  %b = f32[8,64]{1,0:T(8,128)S(1)} parameter(1)
  %n = s32[]{:T(128)} parameter(2)
  %f = f32[9,3,64]{2,1,0:T(4,128)} fusion(%a, %b, %n), kind=kLoop, calls=%slices
  %c = (f32[9,3,64]{2,1,0:T(4,128)S(1)}, f32[9,3,64]{2,1,0:T(4,128)}, u32[]) copy-start(%f)
  %e = f32[9,3,64]{2,1,0:T(4,128)S(1)} copy-done(%c)
  ROOT %k = f32[9,3,64]{2,1,0:T(4,128)} custom-call(%e, %b), custom_call_target="other"
}
"""


def test_a_copy_belongs_to_what_uses_it():
    lines = [
        '  %a = f32[8]{0} parameter(0), metadata={op_name="state"}',
        "  %c = (f32[8]{0:S(1)}, f32[8]{0}, u32[]) copy-start(%a)",
        "  %d = f32[8]{0:S(1)} copy-done(%c)",
        '  %e = f32[8]{0} exponential(%d), metadata={op_name="jit(step)/attention/exp"}',
        "  ROOT %f = f32[8]{0} copy(%e)",
    ]
    module = hlo.read_module("\n".join(["ENTRY %main (a: f32[8]) -> f32[8] {", *lines, "}"]))
    found = {i.name: module.scope(i, where) for i, _, where in module.walk()}
    assert found == {"a": "state"} | dict.fromkeys("cdef", "jit(step)/attention/exp")


def test_traffic():
    module = hlo.read_module(TRAFFIC)
    moved = {i.name: traffic.hbm_bytes(module, i, where) for i, _, where in module.walk()}
    row, whole = 4 * 128 * 4, 9 * 4 * 128 * 4  # tiles of 4×128
    # A slice is read, and written in place; b lies in vector memory; n is 4 bytes.
    assert moved["f"] == 2 * row + 4
    assert moved["c"] == whole and moved["e"] == 0
    assert moved["k"] == whole


def test_traced_flops():
    def function(a, kernel, x):
        products = jax.lax.map(lambda row: row @ a, jnp.ones((3, 2, 4)))
        image = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return products.sum() + image.sum()

    shapes = (jnp.ones((4, 6)), jnp.ones((3, 3, 5, 7)), jnp.ones((2, 8, 8, 5)))
    convolution = 2 * (2 * 8 * 8 * 7) * (3 * 3 * 5)
    assert flops.traced_flops(jax.jit(function), *shapes) == 3 * 2 * (2 * 6) * 4 + convolution
    # The gradient of a convolution: one more for its input, one more for its kernel.
    gradient = jax.grad(lambda kernel, x: function(shapes[0], kernel, x), argnums=(0, 1))
    assert flops.traced_flops(gradient, *shapes[1:]) >= 2 * convolution


def test_flops_by_region_without_padding():
    def function(x, kernel):
        with jax.named_scope("convolution"):
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        with jax.named_scope("product"):
            return jnp.sum(jnp.sin(x @ jnp.ones((7, 3))))

    shapes = (jnp.ones((2, 8, 8, 5)), jnp.ones((3, 3, 5, 7)))
    scopes = ("convolution", "product")
    found = flops.flops_by(
        lambda name: next(s for s in scopes if s in name), jax.grad(function, argnums=(0, 1)), *shapes
    )
    # Of 3·8 positions of a kernel's row or column two are in the padding. Each product has two gradients, of a constant
    # one.
    assert found == {"convolution": 3 * 2.0 * 2 * 22 * 22 * 5 * 7, "product": 2 * 2.0 * 2 * 8 * 8 * 7 * 3}


def test_interleave_takes_turns():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert set(measure.interleave(ways, 2, warmups=1)) == {"a", "b"}
    assert calls == ["a", "b"] * 3


def test_table_and_result(tmp_path):
    assert measure.table(("a", "b"), [{"a": 1.23456}]) == "| a | b |\n|---|---|\n| 1.23 | – |"
    path = measure.write("x", {"rows": [1]}, folder=tmp_path, device="d", note="n")
    found = json.loads(path.read_text())
    assert found["rows"] == [1] and found["device"] == "d" and found["note"] == "n" and "jax" in found["versions"]


def test_device_name_where_a_process_has_no_cores_of_its_own(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(jax, "devices", lambda: [mock.Mock(platform="cpu")])
    assert measure.device_name() == "cpu-3-cores"


def run(monkeypatch, main, *flags):
    monkeypatch.setattr("sys.argv", ["program", *flags])
    main()


def test_attention(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from benchmarks import attention

    flags = ("--forms", "box", "--size", "8", "--n_feats", "4", "--rounds", "1", "--output", str(tmp_path))
    run(monkeypatch, attention.main, *flags)
    rows = json.loads((tmp_path / "attention.json").read_text())["rows"]
    assert {(row["k"], row["pass"], row["way"]) for row in rows} == {
        (k, which, way)
        for k in ("3", "5", "7", "3+5+7")
        for which in ("forward", "gradient")
        for way in ("PyTorch", "box")
    }
    assert all(row["ms"] > 0 and row["GFLOP/picture"] > 0 for row in rows)


def test_network(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from benchmarks import network

    sizes = ("--config.model.n_groups=2", "--config.model.n_blocks=1", "--config.model.n_feats=4")
    tiny = (*sizes, "--forward", "1x6", "--step", "2x6", "--compare", "blocks=scan,remat=on")
    run(monkeypatch, network.main, *tiny, "--rounds", "1", "--output", str(tmp_path))
    rows = json.loads((tmp_path / "network.json").read_text())["rows"]
    assert [(row["pass"], row["way"]) for row in rows] == [
        (which, way) for which in ("forward", "step") for way in ("ours", "ours, blocks=scan, remat=on", "PyTorch")
    ]
    assert all(row["ms"] > 0 and "error" not in row for row in rows)


def test_whole_image_needs_sizes(monkeypatch, tmp_path):
    from benchmarks import whole_image
    from msnlan_jax.errors import InputError

    with pytest.raises(InputError, match="found 'large', expected as in"):
        run(monkeypatch, whole_image.main, "--sizes", "large", "--output", str(tmp_path))


def test_input_pipeline(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    from benchmarks import input_pipeline

    monkeypatch.setattr(input_pipeline, "BATCHES", 10)
    run(monkeypatch, input_pipeline.main, "--workers", "0", "--rounds", "1", "--output", str(tmp_path))
    found = json.loads((tmp_path / "input_pipeline.json").read_text())
    assert "device" in found and found["batch_size"] == 16 and found["workers"] == 0
    assert len(found["ways"]) == 4
    for way in found["ways"].values():
        assert set(way) == set(input_pipeline.COLUMNS) - {"way"} and all(value > 0 for value in way.values())


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--config configs/x4.py", "x4-v5e-2x2"),
        ("--config configs/x4.py --config.remat=off", "x4-v5e-2x2-remat-off"),
        ("--config configs/tpu_pod.py --operator 7", "tpu_pod-v5e-2x2-operator-7"),
        ("--compare implementation=plain", "x4-v5e-2x2-against-implementation-plain"),
        ("--topology v5e:16x16 --chip_batch 16 --form box", "x4-v5e-16x16-chip_batch-16-form-box"),
        ("--config.data.dir=/x/y --config.learning_rate 1e-4", "x4-v5e-2x2-data.dir-x-y-learning_rate-1e-4"),
    ],
)
def test_tpu_compile_names_its_results(monkeypatch, tmp_path, flags, name):
    with mock.patch.dict(os.environ):  # which importing the program changes
        from benchmarks import tpu_compile
    monkeypatch.setattr(tpu_compile, "report", lambda flags: {"compiles": True})
    run(monkeypatch, tpu_compile.main, *flags.split(), "--output", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.json"]


def costs(tpu):
    return [
        tpu.Cost("attention", "", 3, 1_000_000, 500_000, 10**9),
        tpu.Cost("attention", "scores", 16, 3_000_000, 3_000_000, 10**8, 2**20),
        tpu.Cost("optimiser and gradients' sum", "", 5, 4_000_000, 2_000_000, 10**7),
    ]


def test_tpu_compile_shows_kernels_beside_the_rest(monkeypatch, tmp_path, capsys):
    with mock.patch.dict(os.environ):
        from benchmarks import tpu, tpu_compile
    chip = chips.read_chip("v5e:2x2")
    needed = {"attention": 4_000_000 * chip.flops_per_cycle / 8}
    whole = {"GiB per chip": 3.5, "all bundles": True} | tpu_compile.summarise(costs(tpu), needed, chip)
    assert whole["cycles"] == {"attention": 4_000_000, "optimiser and gradients' sum": 4_000_000}
    results = iter([whole, whole | tpu_compile.summarise(costs(tpu)[:1], needed, chip)])
    monkeypatch.setattr(tpu_compile, "report", lambda flags: next(results))
    run(monkeypatch, tpu_compile.main, "--compare", "dtype=bfloat16,batch_size=4", "--output", str(tmp_path))
    out = capsys.readouterr().out
    assert "| attention |  | – | 4 | 50% | 3.5 | 0.0655 | 12.5% | 1.1 | – | – |" in out
    assert (
        "|  | XLA | – | 1 | 12% | – |" in out
        and "|  | Pallas: scores | 16 | 3 | 38% | – | – | – | 0.1 | 1 | – |" in out
    )
    assert "| all |  | – | 8 | 100% | 5.5 | 0.0655 | 6.2% | 1.11 | – | 3.5 |" in out
    assert "| all | 1 | 8 | 0.125 | 0.5 | 5.5 | 50.0% | 6.2% | 1 | 1.11 |" in out
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["compared with"]["cycles"] == {"attention": 1_000_000}


def test_the_configuration_that_is_compared_has_changes():
    from benchmarks import reports
    from msnlan_jax.errors import InputError

    flags = argparse.Namespace(config_file="configs/x4.py", changes=["seed=3"], config=None)
    changed = reports.with_changes(flags, ["dtype=bfloat16"])
    assert (changed.config.seed, changed.config.dtype) == (3, "bfloat16") and flags.changes == ["seed=3"]
    with pytest.raises(InputError, match="batch_size: found 'many'"):
        reports.with_changes(flags, ["batch_size=many"])


def test_tpu_scaling(monkeypatch, tmp_path):
    with mock.patch.dict(os.environ):
        from benchmarks import programs, tpu_compile, tpu_scaling

    def report(flags):
        assert programs.describe(flags) == {}  # the step
        asked.append((flags.topology, flags.chip_batch))
        chips_in_all = {"v5e:2x2": 4, "v5e:4x4": 16}[flags.topology]
        facts = {"compiles": True, "chips": chips_in_all, "pictures per chip": flags.chip_batch, "GiB per chip": 2.0}
        cycles = [{"region": "all", "cycles": 1_000_000 * flags.chip_batch}]
        return facts | {"regions": cycles, "collectives": {"all-reduce": {"count": 1, "bytes": 40_000_000}}}

    asked = []
    monkeypatch.setattr(tpu_compile, "report", report)
    flags = ("--topologies", "v5e:2x2,v5e:4x4", "--batch", "256", "--output", str(tmp_path))
    run(monkeypatch, tpu_scaling.main, *flags)
    # On 16 chips both ways have 16 pictures a chip.
    assert asked == [("v5e:2x2", 16), ("v5e:2x2", 64), ("v5e:4x4", 16)]
    rows = json.loads((tmp_path / "scaling-tpu_pod-v5e-2x2-v5e-4x4.json").read_text())["rows"]
    assert [(row["scaling"], row["topology"], row["pictures a chip"]) for row in rows] == [
        ("weak", "v5e:2x2", 16),
        ("strong", "v5e:2x2", 64.0),
        ("weak", "v5e:4x4", 16),
        ("strong", "v5e:4x4", 16.0),
    ]
    # Each chip sends 3/4 of 40 MB twice over two links of 50 GB/s, at 1.5 GHz.
    assert rows[0]["sum M cycles"] == pytest.approx(0.9) and rows[0]["sum's share"] == "5.3%"
    assert rows[0]["pictures/s"] == pytest.approx(64 * 1.5e9 / 16.9e6)
    assert [row["of the smallest's"] for row in rows] == ["100%", "104%", "99%", "99%"]


def test_tpu_scaling_leaves_out_what_does_not_divide(monkeypatch, tmp_path):
    with mock.patch.dict(os.environ):
        from benchmarks import tpu_compile, tpu_scaling
    monkeypatch.setattr(tpu_compile, "report", lambda flags: {"compiles": False})
    flags = ("--topologies", "v5p:8x8x8", "--batch", "256", "--output", str(tmp_path))
    run(monkeypatch, tpu_scaling.main, *flags)
    weak, strong = json.loads((tmp_path / "scaling-tpu_pod-v5p-8x8x8.json").read_text())["rows"]
    assert strong["pictures a chip"] == 0.5 and "M cycles" not in strong and "M cycles" not in weak


def test_shared_programs_names_what_is_wrong(monkeypatch, tmp_path):
    from benchmarks import shared_programs
    from msnlan_jax.errors import InputError

    with pytest.raises(InputError, match=r"^shared: .*absent"):
        run(monkeypatch, shared_programs.main, "--data_dir", str(tmp_path / "absent"), "--output", str(tmp_path))


def test_shared_programs(monkeypatch, tmp_path):
    from benchmarks import shared_programs

    save_noise(tmp_path / "data" / "Tiny" / "HR", {"a.png": (64, 68, 3), "b.png": (72, 60, 3)})
    save_workdir(tmp_path / "run", (1, tiny_parameters(2), None))
    flags = ("--data_dir", str(tmp_path / "data"), "--datasets", "Tiny", "--scale", "2", "--weights")
    run(monkeypatch, shared_programs.main, *flags, str(tmp_path / "run"), "--output", str(tmp_path))
    found = json.loads((tmp_path / "shared_programs-x2.json").read_text())
    shared, exact = found["rows"]
    assert (shared["programs"], shared["pictures"], exact["programs"], exact["pictures"]) == (1, 2, 2, 2)
    assert found["largest difference of a picture's PSNR, dB"] < 1e-3
