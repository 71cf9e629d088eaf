"""Norms over time and of each step: equal to torch's, masked, and in half precision."""

import pytest
import torch

from papez_lobes.norms import StepLayerNorm, TimeNorm


def test_time_norm_equals_torch_instance_norm():
    torch.manual_seed(0)
    ours, theirs = TimeNorm(5).double(), torch.nn.InstanceNorm1d(5, affine=True).double()
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 20, 5, dtype=torch.float64) * 7 + 3
    expected = theirs(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("valid", [1, 2, 13])
def test_masked_statistics_are_those_of_the_valid_positions(valid):
    norm, x = TimeNorm(4).double(), torch.randn(1, 20, 4, dtype=torch.float64)
    mask = torch.arange(20).unsqueeze(0) < valid
    x[:, valid:] = float("inf")
    torch.testing.assert_close(
        norm(x, mask)[:, :valid], norm(x[:, :valid]), atol=1e-12, rtol=1e-12
    )


def test_half_precision_is_normalised_in_single():
    norm, x = TimeNorm(4), torch.randn(1, 3000, 4) + 100
    normed = norm(x.bfloat16())
    assert normed.dtype == torch.float32
    torch.testing.assert_close(normed, norm(x.bfloat16().float()))


def test_each_step_has_its_own_affine():
    norm = StepLayerNorm(3, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6)
    for step in range(3):
        layer = torch.nn.LayerNorm(6)
        layer.weight.data, layer.bias.data = norm.weight.data[step], norm.bias.data[step]
        torch.testing.assert_close(norm(x, step), layer(x))
