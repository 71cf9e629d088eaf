"""The spectral encoder and decoder, and the masks between them."""

import pytest
import torch

from papez_lobes.memory import WorkingMemory
from papez_lobes.spectral import SpectralDecoder, SpectralEncoder, SpectralMaskNet, num_bins

CODECS = [(32, 16), (32, 8), (12, 4), (256, 128)]


def spectrum_of(features):
    """[B, 4 F, L] as a complex [B, F, L], after a look at its turned copy."""
    real, imaginary, turned_real, turned_imaginary = features.chunk(4, dim=1)
    assert torch.equal(turned_real, -imaginary) and torch.equal(turned_imaginary, real)
    return torch.complex(real, imaginary)


@pytest.mark.parametrize("kernel_size, stride", CODECS)
@pytest.mark.parametrize("samples", [1, 7, 300, 512])
def test_features_equal_torchs_transform(kernel_size, stride, samples):
    mixture, margin = torch.randn(2, samples), kernel_size - stride
    features = SpectralEncoder(kernel_size, stride)(mixture)
    frames = features.shape[2]
    padded = torch.nn.functional.pad(mixture, (margin, margin + 2 * kernel_size))
    window = torch.hann_window(kernel_size).sqrt()
    expected = torch.stft(
        padded, kernel_size, stride, window=window, center=False, return_complex=True
    )
    torch.testing.assert_close(spectrum_of(features), expected[:, :, :frames])
    assert expected[:, :, frames:].abs().max() == 0  # no sample is left out


@pytest.mark.parametrize("kernel_size, stride", CODECS)
@pytest.mark.parametrize("samples", [1, 2, 15, 16, 17, 300])
def test_decoder_gives_back_what_was_encoded(kernel_size, stride, samples):
    mixture = torch.randn(2, samples)
    features = SpectralEncoder(kernel_size, stride)(mixture)
    half = features.shape[1] // 2
    features[:, half:] = 0  # masks of 1 + 0j
    again = SpectralDecoder(kernel_size, stride)(features)
    assert again.shape == (2, features.shape[2] * stride) and again.shape[1] >= samples
    torch.testing.assert_close(again[:, :samples], mixture, atol=1e-5, rtol=0)
    assert (again[:, samples:].abs() < 1e-5).all()


def test_two_real_masks_are_one_complex_mask(tiny):
    separator, _ = tiny("papez_small")
    features = separator.encoder(torch.randn(1, 300).double())
    masks = separator.masknet(features)
    real, _, imaginary, _ = masks.chunk(4, dim=2)
    product = torch.complex(real, imaginary) * spectrum_of(features)
    summed = sum((masks * features).chunk(2, dim=2))
    torch.testing.assert_close(torch.cat([product.real, product.imag], dim=2), summed)


@pytest.mark.parametrize("level", [1e-4, 1e3])
def test_masks_do_not_depend_on_the_level(tiny, level):
    separator, _ = tiny("papez_small", halting_bias=-40.0)
    mixture = torch.randn(2, 400).double()
    mixture[1, 200:], lengths = 0, torch.tensor([1.0, 0.5]).double()
    expected, got = (separator(gain * mixture, lengths) for gain in (1, level))
    torch.testing.assert_close(got, level * expected, atol=1e-9 * level, rtol=1e-9)


def test_an_untrained_separator_gives_each_speaker_about_half_the_mixture(tiny):
    separator, _ = tiny("papez_small")
    torch.nn.init.zeros_(separator.masknet.head.linear_out.weight)
    torch.nn.init.zeros_(separator.masknet.head.linear_out.bias)
    mixture = torch.randn(1, 300).double()
    estimates = separator(mixture)
    torch.testing.assert_close(estimates, (mixture / 2).unsqueeze(-1).expand(-1, -1, 2))


def test_under_autocast_the_codec_stays_in_single_precision():
    encoder, decoder = SpectralEncoder(32, 16), SpectralDecoder(32, 16)
    mixture = torch.randn(1, 300)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(mixture)
        features[:, 2 * num_bins(32):] = 0
        again = decoder(features)[:, :300]
    torch.testing.assert_close(again, mixture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel_size, stride, message", [
    (32, 32, "kernel_stride is 32"), (33, 11, "kernel_size 33"), (32, 12, "kernel_stride is 12"),
    (32, 0, "kernel_stride is 0"), (0, 1, "kernel_size is 0"), (32, 64, "kernel_stride is 64"),
    ("many", 16, "kernel_size is 'many'"), (32, 2.5, "kernel_stride is 2.5"),
])
def test_windows_that_do_not_overlap_evenly_are_refused(kernel_size, stride, message):
    for part in (SpectralEncoder, SpectralDecoder):
        with pytest.raises(ValueError, match=message):
            part(kernel_size, stride)


@pytest.mark.parametrize(
    "mixture", [torch.zeros(5), torch.zeros(1, 0), torch.zeros(1, 1, 5), torch.zeros(1, 5).int()]
)
def test_a_mixture_of_another_form_is_refused(mixture):
    with pytest.raises(ValueError, match=r"expected a floating point mixture \[batch, samples\]"):
        SpectralEncoder(32, 16)(mixture)


def test_last_samples_reach_the_features():
    mixture = torch.randn(1, 103, dtype=torch.float64, requires_grad=True)
    SpectralEncoder(32, 16).double()(mixture).square().sum().backward()
    assert bool((mixture.grad != 0).all())


def test_what_stands_in_the_padding_does_not_matter():
    encoder, decoder = SpectralEncoder(32, 16), SpectralDecoder(32, 16)
    mixture, lengths = torch.randn(2, 100), torch.tensor([1.0, 0.37])
    features, feature_lengths = encoder(mixture, lengths)
    mixture[1, 37:] = float("nan")
    spoiled, _ = encoder(mixture, lengths)
    assert torch.equal(features, spoiled)
    valid = round(feature_lengths[1].item() * features.shape[2])
    assert valid == encoder(mixture[1:, :37]).shape[2]
    decoded = decoder(features)
    features[1, :, valid:] = 1e3
    assert torch.equal(decoded[1, :37], decoder(features)[1, :37])


@pytest.mark.parametrize("silent", [slice(0, 400), slice(100, 300)])
def test_silence_has_a_gradient(tiny, silent):
    """Of the mixture, as a front end that is trained together wants it."""
    separator, _ = tiny("papez_small")
    mixture = torch.randn(1, 400).double()
    mixture[:, silent] = 0
    mixture.requires_grad_()
    separator(mixture).square().sum().backward()
    assert mixture.grad.isfinite().all()


def test_memory_of_another_width_is_refused():
    memory, loop = WorkingMemory(2, 16), None
    with pytest.raises(ValueError, match="width is 16: it must be the number of frequencies, 17 "):
        SpectralMaskNet(32, 8, 2, memory, loop)
