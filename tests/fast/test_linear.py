"""Linear maps for inference: near to torch's in single precision."""

import copy

import pytest
import torch
from torch import nn

from papez_lobes.fast.linear import Int8Linear, PrepackedLinear, rectified
from papez_lobes.fast.private import pack_weight, packs_linear_maps
from papez_lobes.profiling.cost import count_macs


def test_eight_bits_are_as_near_as_their_steps():
    torch.manual_seed(0)
    linear, x = nn.Linear(48, 24), torch.randn(200, 48)
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
    for found, wanted in ((got(x), biased), (rectified(got, x), biased.relu())):
        difference = (found - wanted).abs()
        assert difference.max() < (0.1 if reduced else 0.01)  # a step, where rounding ties
        assert difference.mean() < (0.05 if reduced else 1e-4)
    for operation in (got, got.rectified):
        assert count_macs(lambda: operation(x)) == 200 * 48 * 24  # noqa: B023


@pytest.fixture
def prepacked():
    torch.manual_seed(0)
    linear = nn.Linear(48, 24)
    if not packs_linear_maps():
        pytest.skip("this torch has no oneDNN")
    return linear, PrepackedLinear(linear)


def test_a_prepacked_product_is_the_product(prepacked):
    linear, got = prepacked
    for x in (torch.randn(5, 48), torch.randn(2, 48, 7).transpose(1, 2), torch.randn(0, 48)):
        with torch.no_grad():
            assert torch.allclose(got(x), linear(x), atol=1e-6)
            assert torch.allclose(rectified(got, x), rectified(linear, x), atol=1e-6)
            assert torch.equal(rectified(linear, x), linear(x).relu())
            assert count_macs(lambda: got.rectified(x)) == x.numel() * 24  # noqa: B023


def test_a_prepacked_map_is_still_trained_copied_cast_and_loaded(prepacked):
    linear, got = prepacked
    x, other = torch.randn(5, 48), nn.Linear(48, 24)
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


def test_what_cannot_be_packed_is_torchs(prepacked, monkeypatch):
    linear, _ = prepacked
    assert pack_weight(linear.weight.double()) is None
    monkeypatch.setattr("papez_lobes.fast.private.packs_linear_maps", lambda: False)
    x, got = torch.randn(5, 48), PrepackedLinear(linear)
    with torch.no_grad():
        assert torch.equal(got(x), linear(x))
