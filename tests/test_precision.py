"""Other precisions: near the numbers of single precision, and what cannot be is refused."""

import copy

import pytest
import torch
from torch import nn

from papez_lobes import precision
from papez_lobes.errors import UserError
from papez_lobes.precision import DTYPES, Int8Linear, Linear, PrepackedLinear, lower_precision
from papez_lobes.profiling.cost import count_macs
from papez_lobes.separator import separate


def test_eight_bits_are_as_near_as_their_steps():
    torch.manual_seed(0)
    linear, x = Linear(48, 24), torch.randn(200, 48)
    got = Int8Linear(linear)
    # by hand: weights in 127 steps a channel, inputs in 255 steps
    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    weight = (linear.weight / scale).round() * scale
    step = (x.max() - x.min()) / 255
    zero = (-x.min() / step).round()
    inputs = ((x / step).round() + zero).clamp(0, 255) - zero
    product = inputs * step @ weight.T
    reduced = not torch.cpu._is_vnni_supported()
    biased = product + linear.bias
    for found, wanted in (
        (got(x), biased), (got.product(x), product), (got.rectified(x), biased.relu())
    ):
        difference = (found - wanted).abs()
        assert difference.max() < (0.1 if reduced else 0.01)  # a step, where rounding ties
        assert difference.mean() < (0.05 if reduced else 1e-4)
    for operation in (got, got.product, got.rectified):
        assert count_macs(lambda: operation(x)) == 200 * 48 * 24  # noqa: B023


@pytest.fixture
def prepacked():
    torch.manual_seed(0)
    linear = Linear(48, 24)
    if not PrepackedLinear.is_supported(linear):
        pytest.skip("this torch has no oneDNN")
    return linear, PrepackedLinear(linear)


def test_a_prepacked_product_is_the_product(prepacked):
    linear, got = prepacked
    for x in (torch.randn(5, 48), torch.randn(2, 48, 7).transpose(1, 2), torch.randn(0, 48)):
        with torch.no_grad():
            assert torch.allclose(got(x), linear(x), atol=1e-6)
            assert torch.allclose(got.product(x), linear.product(x), atol=1e-6)
            assert torch.allclose(got.rectified(x), linear.rectified(x), atol=1e-6)
            assert count_macs(lambda: got.rectified(x)) == x.numel() * 24  # noqa: B023


def test_a_prepacked_map_is_still_trained_copied_cast_and_loaded(prepacked):
    linear, got = prepacked
    x, other = torch.randn(5, 48), Linear(48, 24)
    got(x).square().sum().backward()  # a gradient reaches the shared weight
    assert linear.weight.grad.abs().sum() > 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert got(x).dtype == torch.bfloat16
    duplicate = copy.deepcopy(got)
    got.train()
    with torch.no_grad():
        linear.weight.zero_()  # as an optimiser would, between train() and eval()
        assert torch.equal(got.eval()(x), linear.bias.expand(5, -1))
        assert not torch.equal(duplicate(x), got(x))
    got = PrepackedLinear(linear)
    got.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert torch.allclose(got(x), other(x), atol=1e-6)
        assert got.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["papez", "papez_official"])
def test_a_separator_gives_nearly_the_same(tiny, name, dtype):
    modules, _ = tiny(name, halting_bias=-40.0)
    lower = copy.deepcopy(modules.float().eval())
    lower_precision(lower, dtype)
    mixture = torch.randn(1, 2000)
    with torch.inference_mode():
        expected, trace = separate(modules, mixture, return_trace=True)
        got, lower_trace = separate(lower, mixture, return_trace=True)
    assert torch.equal(trace.depth, lower_trace.depth)
    error = (got.float() - expected).square().mean() / expected.square().mean()
    assert error < 1e-10 if dtype == "float32" else 0 < error < 0.01


def test_all_linear_maps_are_in_eight_bits_and_no_other_kind(tiny):
    modules, _ = tiny()
    linear = sum(type(module) in (nn.Linear, Linear) for module in modules.modules())
    lower_precision(modules.float(), "int8")
    assert sum(isinstance(module, Int8Linear) for module in modules.modules()) == linear > 5
    attention = {"masknet": nn.MultiheadAttention(8, 2)}  # reads its output projection's weight
    with pytest.raises(UserError, match="int8: this separator has no linear maps"):
        lower_precision(attention, "int8")


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="dtype 'int4': it must be one of float32, bfloat16"):
        lower_precision({}, "int4")
    with pytest.raises(UserError, match="int8 is for CPUs, not for cuda"):
        lower_precision({}, "int8", "cuda:0")


def test_a_copy_in_half_precision_computes_with_its_own_weights():
    linear = nn.Linear(4, 4)
    lower_precision({"linear": linear}, "bfloat16")
    other = copy.deepcopy(linear)
    nn.init.zeros_(other.weight), nn.init.ones_(other.bias)
    assert other(torch.randn(1, 4)).eq(1).all()


@pytest.mark.parametrize("supported", [True, False])
def test_a_cpu_without_the_instructions_is_named(monkeypatch, caplog, supported):
    monkeypatch.setattr(precision, "_has_products_in", lambda dtype: supported)
    lower_precision({"linear": nn.Linear(4, 4)}, "bfloat16")
    lines = [record.getMessage() for record in caplog.records]
    named = [line for line in lines if line.startswith("bfloat16: this CPU has no instructions")]
    assert lines == named and len(named) == (not supported)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_torch_says_what_the_cpu_has(dtype):
    assert precision._has_products_in(dtype) in (True, False)
