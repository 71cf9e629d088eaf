"""The learned encoder and decoder: frames, padding and refusals."""

import pytest
import torch

from papez_lobes.codec import Decoder, Encoder, num_frames


@pytest.mark.parametrize("kernel_size, stride", [(16, 8), (8, 3), (4, 4), (5, 1)])
def test_frames_cover_every_sample_and_no_frame_is_needless(kernel_size, stride):
    for samples in range(1, 5 * kernel_size):
        frames = num_frames(samples, kernel_size, stride)
        assert (frames - 1) * stride + kernel_size >= samples
        assert frames == 1 or (frames - 2) * stride + kernel_size < samples
    lengths = torch.arange(1, 100)
    assert num_frames(lengths, kernel_size, stride).tolist() == [
        num_frames(n, kernel_size, stride) for n in lengths.tolist()
    ]


def test_decoder_equals_torch_layers():
    torch.manual_seed(0)
    for kernel_size, stride in ((16, 8), (7, 3), (4, 4)):
        decoder = Decoder(6, kernel_size, stride).double()
        features = torch.randn(2, 6, 11).double()
        decoder.pointwise.weight.data.copy_(torch.eye(6))
        decoder.pointwise.bias.data.zero_()
        norm = torch.nn.InstanceNorm1d(6).double()
        expected = decoder.deconv(torch.nn.functional.leaky_relu(norm(features))).squeeze(1)
        torch.testing.assert_close(decoder(features), expected)


@pytest.mark.parametrize("samples", [16, 24, 800])
def test_encoder_equals_torch_layers_where_no_sample_is_missing(samples):
    torch.manual_seed(0)
    ours = Encoder(12, 16, 8)
    torch.nn.init.normal_(ours.norm.weight)
    torch.nn.init.normal_(ours.norm.bias)
    norm = torch.nn.InstanceNorm1d(12, affine=True)
    norm.weight, norm.bias = ours.norm.weight, ours.norm.bias
    pointwise = torch.nn.Conv1d(12, 12, 1)
    pointwise.weight.data.copy_(ours.pointwise.weight.unsqueeze(-1))
    pointwise.bias.data.copy_(ours.pointwise.bias)
    mixture = torch.randn(3, samples)
    features = ours.conv(mixture.unsqueeze(1))
    if features.shape[2] == 1:  # torch refuses to normalise a single position
        expected = torch.nn.functional.leaky_relu(norm.bias)[None, :, None].expand(3, -1, 1)
    else:
        expected = torch.nn.functional.leaky_relu(norm(features))
    torch.testing.assert_close(ours(mixture), pointwise(expected), atol=1e-5, rtol=1e-4)


def test_last_samples_reach_the_features():
    encoder = Encoder(8, 16, 8).double()
    mixture = torch.randn(1, 103, dtype=torch.float64, requires_grad=True)
    encoder(mixture).square().sum().backward()
    assert bool((mixture.grad != 0).all())


def test_what_stands_in_the_padding_does_not_matter():
    encoder, decoder = Encoder(8, 16, 8), Decoder(8, 16, 8)
    mixture = torch.randn(2, 100)
    lengths = torch.tensor([1.0, 0.37])
    features, feature_lengths = encoder(mixture, lengths)
    mixture[1, 37:] = float("nan")
    spoiled, _ = encoder(mixture, lengths)
    valid = num_frames(37, 16, 8)
    assert torch.equal(features[0], spoiled[0])
    assert torch.equal(features[1, :, :valid], spoiled[1, :, :valid])
    decoded = decoder(features, feature_lengths)
    features[1, :, valid:] = 1e3
    assert torch.equal(decoded[1, :37], decoder(features, feature_lengths)[1, :37])


@pytest.mark.parametrize(
    "mixture", [torch.zeros(5), torch.zeros(1, 0), torch.zeros(1, 1, 5), torch.zeros(1, 5).int()]
)
def test_a_mixture_of_another_form_is_refused(mixture):
    with pytest.raises(ValueError, match=r"expected a floating point mixture \[batch, samples\]"):
        Encoder(8, 16, 8)(mixture)


def test_a_stride_that_skips_samples_is_refused():
    with pytest.raises(ValueError, match="kernel_stride is 9"):
        Encoder(8, 8, 9)
    with pytest.raises(ValueError, match="kernel_stride is 0"):
        Decoder(8, 8, 0)
