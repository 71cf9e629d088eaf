"""The convolution over neighbouring tokens."""

import pytest
import torch

from papez_lobes.block import RecurrentBlock
from papez_lobes.convolution import TemporalConvolution
from papez_lobes.halting import Halting
from papez_lobes.masknet import MaskNet
from papez_lobes.memory import WorkingMemory
from papez_lobes.recurrent import RecurrentTransformer
from papez_lobes.spectral import SpectralMaskNet, num_bins


def random_convolution(dim=16, kernel_size=7):
    convolution = TemporalConvolution(dim, kernel_size)
    torch.nn.init.normal_(convolution.weight)
    torch.nn.init.normal_(convolution.bias)
    return convolution.double()


def masknet_of(kind, convolution):
    torch.manual_seed(0)
    block = RecurrentBlock(16, 2, 20, num_steps=4, num_slots=2, chunk_tokens=6)
    width = num_bins(8) if kind is SpectralMaskNet else 16
    parts = 2, WorkingMemory(2, width), RecurrentTransformer(block, Halting(bias=-1.0))
    first = (8, 16) if kind is SpectralMaskNet else (16,)
    return kind(*first, *parts, convolution=convolution).double().eval()


def test_it_is_the_sum_over_neighbouring_tokens():
    convolution, tokens = random_convolution(3, 5), torch.randn(2, 9, 3).double()
    got = convolution(tokens)
    for time in range(9):
        expected = tokens[:, time] + convolution.bias
        for tap in range(5):
            if 0 <= time + tap - 2 < 9:
                expected = expected + tokens[:, time + tap - 2] * convolution.weight[:, 0, tap]
        torch.testing.assert_close(got[:, time], expected)


def test_it_begins_as_the_identity_and_learns():
    convolution, tokens = TemporalConvolution(4), torch.randn(2, 9, 4)
    got = convolution(tokens)
    assert torch.equal(got, tokens)
    got.square().sum().backward()
    assert (convolution.weight.grad.abs().sum(dim=(1, 2)) > 0).all()
    assert (convolution.bias.grad != 0).all()


@pytest.mark.parametrize("own", [1, 3, 7, 20])
def test_an_item_is_the_same_alone_and_in_a_batch_whatever_pads_it(own):
    convolution, tokens = random_convolution(), torch.randn(2, 20, 16).double()
    mask = torch.arange(20) < torch.tensor([[20], [own]])
    tokens[1, own:] = torch.nan
    torch.testing.assert_close(
        convolution(tokens, mask)[1, :own], convolution(tokens[1:, :own])[0])
    assert convolution(tokens, mask)[0].isfinite().all()


@pytest.mark.parametrize("kind", [MaskNet, SpectralMaskNet])
def test_a_mask_network_takes_one(kind):
    plain = masknet_of(kind, None)
    channels = 4 * num_bins(8) if kind is SpectralMaskNet else 16
    features, lengths = torch.randn(2, channels, 30).double(), torch.tensor([1.0, 0.5]).double()
    expected = plain(features, lengths)
    grown = masknet_of(kind, TemporalConvolution(16))
    missing = grown.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["convolution.weight", "convolution.bias"]
    assert torch.equal(grown(features, lengths), expected)
    grown.convolution = random_convolution()
    together, alone = grown(features, lengths), grown(features[1:, :, :15])
    torch.testing.assert_close(together[:, 1:, :, :15], alone)
    assert not torch.allclose(together, expected)


@pytest.mark.parametrize("size, message", [(4, "must be odd"), (0, "a whole"), (2.5, "a whole")])
def test_a_size_that_does_not_fit_is_refused(size, message):
    with pytest.raises(ValueError, match=f"convolution_size is {size}: .*{message}"):
        TemporalConvolution(8, size)
