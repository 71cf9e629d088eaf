"""Other precisions: near the numbers of single precision, and what cannot be is refused."""

import copy

import pytest
import torch
from torch import nn

from papez_lobes.errors import UserError
from papez_lobes.precision import DTYPES, Int8Linear, Linear, lower_precision
from papez_lobes.separator import separate
from papez_lobes.tools.cost import count_macs


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
    for found, wanted in ((got(x), product + linear.bias), (got.product(x), product)):
        difference = (found - wanted).abs()
        assert difference.max() < (0.1 if reduced else 0.01)  # a step, where rounding ties
        assert difference.mean() < (0.05 if reduced else 1e-4)
    assert count_macs(lambda: got(x)) == 200 * 48 * 24


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
    assert error == 0 if dtype == "float32" else 0 < error < 0.01


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
