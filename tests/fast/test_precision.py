"""Other precisions: near the numbers of single precision, and what cannot be is refused."""

import copy

import pytest
import torch
from torch import nn

from papez_lobes.errors import UserError
from papez_lobes.fast import precision, private
from papez_lobes.fast.linear import Int8Linear, PrepackedLinear
from papez_lobes.fast.precision import DTYPES, lower_precision
from papez_lobes.processor import has_products_in


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


def test_int8_without_an_engine_is_a_line(monkeypatch):
    """As on Apple silicon, where torch has none."""
    monkeypatch.setattr(private, "has_quantised_engine", lambda: False)
    with pytest.raises(UserError, match="int8: this build of torch has no quantised engine"):
        lower_precision({"linear": nn.Sequential(nn.Linear(4, 4))}, "int8")


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
