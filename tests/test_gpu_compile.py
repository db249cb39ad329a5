"""What is counted of programs for GPUs, on small texts as XLA writes them; no compiler for GPUs is needed."""

import dataclasses
import json
import os
import re
from types import SimpleNamespace
from unittest import mock

import jax
import pytest

from benchmarks import hlo, products, programs, thunks
from benchmarks.chips import gpu as chips
from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLANConfig

with mock.patch.dict(os.environ):  # which importing the program changes
    from benchmarks import gpu, gpu_compile

PROGRAM = """HloModule step, is_scheduled=true

%fused (p: bf16[64,32], q: bf16[32,16]) -> f32[64,16] {
  %p = bf16[64,32]{1,0} parameter(0)
  %q = bf16[32,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[64,16]{1,0} dot(%p, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%sliced (s: f32[9,8], n: s32[]) -> f32[1,8] {
  %s = f32[9,8]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%s, %n), dynamic_slice_sizes={1,8}
}

%test (c: s32[]) -> pred[] {
  %c = s32[] parameter(0)
  ROOT %compare = pred[] fusion(%c), kind=kLoop, calls=%less
}

%body (b: s32[]) -> s32[] {
  %b = s32[] parameter(0)
  %x = bf16[2,8,8,4]{3,2,1,0} constant({...})
  %w = bf16[6,3,3,4]{3,2,1,0} constant({...})
  %a = bf16[64,32]{1,0} constant({...})
  %d = bf16[32,16]{1,0} constant({...})
  %s9 = f32[9,8]{1,0} constant({...})
  %conv = (bf16[2,8,8,6]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jvp(residual_groups)/conv"}
  %gemm = f32[64,16]{1,0} fusion(%a, %d), kind=kCustom, calls=%fused, \
metadata={op_name="jvp(attention)/dot"}, backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
  %part = f32[1,8]{1,0} fusion(%s9, %b), kind=kCustom, calls=%sliced, metadata={op_name="jvp(residual_groups)/slice"}
  ROOT %next = s32[] fusion(%b), kind=kLoop, calls=%plus, metadata={op_name="jvp(residual_groups)/add"}
}

ENTRY %main (e: f32[1000]) -> s32[] {
  %e = f32[1000]{0} parameter(0)
  %zero = s32[] constant(0)
  %loop = s32[] while(%zero), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %sum = f32[1000]{0} fusion(%e), kind=kInput, calls=%added, metadata={op_name="jit(step)/add"}
  %copied = f32[1000]{0} copy(%sum)
  ROOT %out = (s32[], f32[1000]{0}) tuple(%loop, %copied)
}
"""
SEQUENCE = """000: kCommandBuffer [source         | next=003 (1) ]\x20
    001: kMemzero      [source | sink] kMemzero
    002: kCustomKernel [source | sink] sum grid: [1, 1, 1] threads: [128, 1, 1]  shared_memory: 0 bytes
003: kWhile         [prev=000 (1)   | next=010 (2) ]\x20\x20
condition:
    004: kCustomKernel [source | sink] compare grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
  body:
    005: kConvolution        [prev=049 (1)  | next=051 (1) ] kConvolution
    006: kDynamicSliceFusion [prev=060 (7)  | next=072 (4) ] params=1, results=1
        007: kCopy [source | sink] kCopy
    000: kCommandBuffer      [prev=103 (3)  | sink         ]\x20
        008: kCustomKernel [source | sink] gemm grid: [2, 1, 1] threads: [64, 1, 1]  shared_memory: 1024 bytes
        009: kCustomKernel [source | sink] next grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
010: kCopy          [source         | sink         ] kCopy
"""
NAMES = {1: "sum", 2: "sum", 3: "loop", 4: "compare", 5: "conv", 6: "part", 7: "inside.part", 8: "gemm", 9: "next"}


def metadata(names=NAMES):
    entry = 'thunk_metadata {{\n  thunk_info {{\n    profile_annotation: "{1}"\n    thunk_id: {0}\n  }}\n}}\n'
    first = 'thunk_metadata {\n  thunk_info {\n    profile_annotation: "command_buffer"\n  }\n}\n'
    return first + "".join(entry.format(*item) for item in (names | {10: "copied"}).items())


def compiled(program=PROGRAM, sequence=SEQUENCE):
    listed = thunks.read_thunks(sequence, metadata())
    return gpu.Compiled(chips.read_gpu("h100"), None, hlo.read_module(program), listed, 1.0)


def kernels(program=PROGRAM):
    costs = gpu.costs(compiled(program), programs.region)
    return {cost.region: {kind: n for kind, n in cost.kernels.items() if n} for cost in costs}


def test_thunks_are_read_with_what_holds_them():
    found = thunks.read_thunks(SEQUENCE, metadata())
    assert [(it.kind, it.names, it.graph) for it in found] == [
        ("kMemzero", ("sum",), 1),
        ("kCustomKernel", ("sum",), 1),
        ("kCustomKernel", ("compare", "loop"), 0),
        ("kConvolution", ("conv", "loop"), 0),
        ("kCopy", ("inside.part", "part", "loop"), 0),
        ("kCustomKernel", ("gemm", "loop"), 2),
        ("kCustomKernel", ("next", "loop"), 2),
        ("kCopy", ("copied",), 0),
    ]


def test_a_thunk_without_a_name_is_an_error():
    with pytest.raises(ValueError, match="thunk 10: found no instruction's name"):
        thunks.read_thunks(SEQUENCE, metadata().replace("thunk_id: 10", "thunk_id: 11"))
    gone = thunks.read_thunks(SEQUENCE, metadata().replace('"copied"', '"gone"'))
    with pytest.raises(ValueError, match=r"^gone: the program's text has no such instruction"):
        gpu.costs(dataclasses.replace(compiled(), thunks=gone))


def test_kernels_count_as_often_as_they_run():
    assert kernels() == {
        "residual groups": {"fusions": 5, "library": 5, "copies": 5},  # the condition does not run
        "attention": {"Triton": 5},
        "optimiser and gradients' sum": {"fusions": 1, "copies": 2},
    }
    assert gpu.total(gpu.costs(compiled()), "all").in_graphs == 2 + 5 * 2
    assert gpu.graphs(compiled()) == 1 + 5 and gpu.waits(compiled()) == 0


def test_a_loop_whose_length_the_compiler_does_not_know_tests_its_condition():
    unknown = PROGRAM.replace('backend_config={"known_trip_count":{"n":"5"}}', "").replace(
        "%c = s32[] parameter(0)", "%c = s32[] parameter(0)\n  %most = s32[] constant(7)"
    )
    found = kernels(unknown)
    assert found["residual groups"] == {"fusions": 7, "library": 7, "copies": 7}
    assert found["optimiser and gradients' sum"] == {"fusions": 1 + 8, "copies": 2}
    assert gpu.waits(compiled(unknown)) == 8


def test_costs_of_an_instruction():
    by_region = {cost.region: cost for cost in gpu.costs(compiled(), programs.region)}
    attention, groups = by_region["attention"], by_region["residual groups"]
    assert attention.flops == 5 * 2 * 64 * 32 * 16
    assert attention.hbm_bytes == 5 * (2 * (64 * 32 + 32 * 16) + 4 * 64 * 16)
    assert groups.flops == 5 * 2 * (2 * 8 * 8 * 6) * (3 * 3 * 4)
    convolution = 2 * (2 * 8 * 8 * 4 + 6 * 3 * 3 * 4 + 2 * 8 * 8 * 6)
    assert groups.hbm_bytes == 5 * (convolution + (4 * 8 * 2 + 4) + (4 + 4))  # of the slice: slice in and out, index
    # Two thunks of one instruction move its bytes once; 8000 bytes take longer than no product.
    optimiser = by_region["optimiser and gradients' sum"]
    assert optimiser.hbm_bytes == 2 * 8000 and optimiser.flops == 0
    assert optimiser.seconds == pytest.approx(2 * 8000 / 3352.32e9)


def test_seconds_are_the_larger_of_arithmetic_and_memory():
    a, b = "bf16[64,32]", "bf16[32,16]"
    deep = PROGRAM.replace(a, "bf16[8192,8192]").replace(b, "bf16[8192,8192]").replace("f32[64,16]", "f32[8192,8192]")
    (attention,) = [cost for cost in gpu.costs(compiled(deep), programs.region) if cost.region == "attention"]
    assert attention.seconds == pytest.approx(5 * 2 * 8192**3 / 989.4e12)
    wide = deep.replace("bf16", "f32")
    (rounded,) = [cost for cost in gpu.costs(compiled(wide), programs.region) if cost.region == "attention"]
    assert rounded.seconds == pytest.approx(5 * 2 * 8192**3 / 494.7e12)
    exact = wide.replace("rhs_contracting_dims={0}", "rhs_contracting_dims={0}, operand_precision={highest,highest}")
    (slow,) = [cost for cost in gpu.costs(compiled(exact), programs.region) if cost.region == "attention"]
    assert slow.seconds == pytest.approx(5 * 2 * 8192**3 / 66.9e12)


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        ('(%x, %w), dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"', 2 * 768 * 36),
        ('(%y, %w), dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"', 2 * 768 * 36),
        ('(%x, %y), dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"', 2 * 768 * 36),
        (
            '(%left, %right), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":'
            '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"],"rhs_contracting_dimensions":["0"]}}}',
            2 * 12 * 7,
        ),
    ],
)
def test_flops_of_libraries(call, flops):
    result = {"Forward": "bf16[2,8,8,6]", "BackwardInput": "bf16[2,8,8,4]", "BackwardFilter": "bf16[6,3,3,4]"}
    found = re.search(r"conv(\w+)\"", call)
    shape = result[found.group(1)] if found else "bf16[3,4]"
    shapes = {
        "x": "bf16[2,8,8,4]",
        "w": "bf16[6,3,3,4]",
        "y": "bf16[2,8,8,6]",
        "left": "bf16[7,3]",
        "right": "bf16[7,4]",
    }
    lines = [f"  %{name} = {shape}{{0}} parameter(0)" for name, shape in shapes.items()]
    lines += [f"  ROOT %call = ({shape}{{0}}, u8[0]{{0}}) custom-call{call}"]
    module = hlo.read_module("\n".join(["ENTRY %main (x: f32[]) -> f32[] {", *lines, "}"]))
    (product,) = products.products(module, module.computations["main"]["call"], "main")
    assert (product.flops, product.dtype) == (flops, "bf16")


def test_chips():
    assert chips.names() == ["a100", "h100", "rtx4090"]
    for name in chips.names():
        chip = chips.read_gpu(name)
        assert 0 < chip.float32_tflops <= chip.tf32_tflops <= chip.bfloat16_tflops
        assert chip.flops_per_second("bf16") == 1e12 * chip.bfloat16_tflops
        # A multiplication and an addition each cycle.
        units = chip.device_info["core_count"] * chip.device_info["fpus_per_core"]
        peak = 2e-3 * units * chip.device_info["clock_rate_ghz"]
        assert chip.float32_tflops == pytest.approx(peak, rel=1e-2)
        assert all(re.search(r"https://|NVIDIA", source) for source in chip.sources)
    target = chips.read_gpu("h100").target
    assert "\n  core_count: 132\n" in target and "{ major: 9 minor: 10 }" in target
    with pytest.raises(InputError, match="--chip: found 'v100', expected one of a100, h100, rtx4090"):
        chips.read_gpu("v100")


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        ("--config configs/x4.py", "x4"),
        ("--batch 64 --config.dtype=bfloat16 --compare implementation=plain", None),
        ("--forward 339x510 --form streamed", "x4-form-streamed-forward-339x510"),
    ],
)
def test_results_are_shown_and_named(monkeypatch, tmp_path, capsys, flags, path):
    result = {"compiles": True, "GiB per chip": 6.5} | gpu_compile.summarise(gpu.costs(compiled(), programs.region))
    monkeypatch.setattr(gpu_compile, "report", lambda flags: dict(result))
    monkeypatch.setattr("sys.argv", ["program", *flags.split(), "--output", str(tmp_path)])
    gpu_compile.main()
    out = capsys.readouterr().out
    assert (
        "| residual groups | 15 | 5 | 0 | 5 | 5 | 0 | 0 | 5 | " in out
        and "| all | 23 | 6 | 5 | 5 | 7 | 0 | 0 | 12 | " in out
    )
    assert [row["region"] for row in result["regions"]] == [
        *("attention", "residual groups", "optimiser and gradients' sum", "all")
    ]
    (file,) = tmp_path.iterdir()
    assert file.stem == (path or "x4-batch-64-dtype-bfloat16-against-implementation-plain")
    found = json.loads(file.read_text())
    assert found["regions"][-1]["kernels"] == 23 and ("compared with" in found) == (path is None)
    assert ("| all | 23 | 23 | 1 | 12 | 12 |" in out) == (path is None)


def test_forward_is_the_exact_network_in_the_array_of_evaluation():
    experiment = SimpleNamespace(network=MSNLANConfig(2, n_feats=4, n_groups=2, n_blocks=1))
    function, arguments = programs.make_forward(experiment, "20x33", "auto", jax.devices())
    assert arguments[1].shape == (1, 32, 48, 3) and arguments[2].shape == (1, 2)
    assert function.eval_shape(*arguments).shape == (1, 64, 96, 3)
    assert "HIGHEST" in str(function.trace(*arguments).jaxpr)
    with pytest.raises(InputError, match="--forward: found '339', expected"):
        programs.make_forward(experiment, "339", "auto", jax.devices())


def test_operations_of_pytorch():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_way

    x = torch.ones(3, 4, requires_grad=True)
    with torch_way.Operations() as operations:
        (x.T @ x).sum().item()
    assert dict(operations.others) == {"aten.mm.default": 1, "aten.sum.default": 1}
    assert operations.idle["aten._local_scalar_dense.default"] == 1
    assert operations.idle.total() > 1  # the transpose
