"""Other precisions: near the numbers of single precision, and what cannot be is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from papez_lobes.devices import has_products_in
from papez_lobes.errors import UserError
from papez_lobes.fast import precision, private
from papez_lobes.fast.linear import Int8Linear, PrepackedLinear
from papez_lobes.fast.precision import DTYPES, lower_precision


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["papez", "papez_official"])
def test_a_separator_gives_nearly_the_same(tiny, name, dtype):
    separator, _ = tiny(name, halting_bias=-40.0)
    lower = copy.deepcopy(separator.float().eval())
    lower_precision(lower.parts, dtype)
    mixture = torch.randn(1, 2000)
    with torch.inference_mode():
        expected, trace = separator(mixture, return_trace=True)
        got, lower_trace = lower(mixture, return_trace=True)
    assert torch.equal(trace.depth, lower_trace.depth)
    error = (got.float() - expected).square().mean() / expected.square().mean()
    assert error < 1e-10 if dtype == "float32" else 0 < error < 0.01


def test_all_linear_maps_are_in_eight_bits_and_no_other_kind(tiny):
    separator, _ = tiny()
    linear = sum(type(module) is nn.Linear for module in separator.modules())
    lower_precision(separator.float().parts, "int8")
    assert sum(isinstance(module, Int8Linear) for module in separator.modules()) == linear > 5
    attention = {"masknet": nn.MultiheadAttention(8, 2)}  # reads its output projection's weight
    with pytest.raises(UserError, match="int8: this separator has no linear maps"):
        lower_precision(attention, "int8")


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="dtype 'int4': it must be one of float32, bfloat16"):
        lower_precision({}, "int4")
    with pytest.raises(UserError, match="int8 is for CPUs, not for cuda"):
        lower_precision({}, "int8", "cuda:0")


@pytest.mark.parametrize("engines", [["none", "qnnpack"], ["qnnpack"], ["none"], []], ids=str)
def test_int8_where_torch_has_chosen_no_engine(monkeypatch, engines):
    """As on Apple silicon: another engine is chosen, or one line says what is missing."""
    state = SimpleNamespace(engine="none", supported_engines=engines)
    prepack = torch.ops.quantized.linear_prepack

    def need_an_engine(*arguments):
        if state.engine == "none":
            raise RuntimeError("Didn't find engine for quantized::linear_prepack NoQEngine")
        return prepack(*arguments)

    monkeypatch.setattr(torch.backends, "quantized", state)
    monkeypatch.setattr(torch.ops.quantized, "linear_prepack", need_an_engine)
    maps, x = nn.Sequential(nn.Linear(8, 8)), torch.randn(20, 8)
    plain = copy.deepcopy(maps)
    if "qnnpack" not in engines:
        with pytest.raises(UserError, match="int8: this build of torch has no quantised engine"):
            lower_precision({"maps": maps}, "int8")
        assert type(maps[0]) is nn.Linear
        return
    lower_precision({"maps": maps}, "int8")
    assert state.engine == "qnnpack"
    with torch.inference_mode():
        assert (maps(x) - plain(x)).norm() < 0.03 * plain(x).norm()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_that_the_device_lacks_is_a_line(monkeypatch, dtype):
    """As bfloat16 on older GPUs of Apple's."""
    zeros = torch.zeros

    def without_halves(*size, **options):
        if options["dtype"] == getattr(torch, dtype):
            raise TypeError("BFloat16 is not supported on MPS")
        return zeros(*size, **options)

    monkeypatch.setattr(torch, "zeros", without_halves)
    linear = nn.Linear(4, 4)
    with pytest.raises(UserError, match=f"{dtype}: device 'mps' does not compute in it"):
        lower_precision({"linear": linear}, dtype, "mps")
    assert "forward" not in vars(linear)


def test_without_oneDNN_float32_keeps_torchs_linear_maps(tiny, monkeypatch):
    monkeypatch.setattr(private, "packs_linear_maps", lambda: False)
    separator, _ = tiny()
    lower_precision(separator.float().parts, "float32")
    assert not any(isinstance(module, PrepackedLinear) for module in separator.modules())
    mixture, (plain, _) = torch.randn(1, 1000), tiny()
    with torch.inference_mode():
        torch.testing.assert_close(separator(mixture), plain.float()(mixture), atol=1e-5, rtol=1e-4)


def test_a_copy_in_half_precision_computes_with_its_own_weights():
    linear = nn.Linear(4, 4)
    lower_precision({"linear": linear}, "bfloat16")
    other = copy.deepcopy(linear)
    nn.init.zeros_(other.weight), nn.init.ones_(other.bias)
    assert other(torch.randn(1, 4)).eq(1).all()


@pytest.mark.parametrize("supported", [True, False])
def test_a_cpu_without_the_instructions_is_named(monkeypatch, caplog, supported):
    monkeypatch.setattr(precision, "has_products_in", lambda *_, **__: supported)
    lower_precision({"linear": nn.Linear(4, 4)}, "bfloat16")
    lines = [record.getMessage() for record in caplog.records]
    named = [line for line in lines if line.startswith("bfloat16: this CPU has no instructions")]
    assert lines == named and len(named) == (not supported)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_torch_says_what_the_cpu_has(dtype):
    assert has_products_in(getattr(torch, dtype)) in (True, False)
