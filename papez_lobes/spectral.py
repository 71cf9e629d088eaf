"""Papez on a spectrogram: a codec of short-time Fourier transforms and its mask network.

It replaces the learned filterbank of `papez_lobes.codec` in `papez_small`. Its longer windows
resolve the harmonics of voices from the first training step on, and there are fewer tokens.
"""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.codec import check_stride, num_frames, overlap_add
from papez_lobes.config.checks import check_options
from papez_lobes.lengths import check_mixture, length_mask, to_counts, to_relative
from papez_lobes.masknet import MaskNet
from papez_lobes.norms import NormedMLP

POWER = 0.3  # compression of magnitudes, near to perceived loudness
FLOOR = 1e-4  # added to magnitudes, which are relative to the mixture's level
SILENCE = 1e-8  # least level that magnitudes are divided by
EPS = 1e-30  # added to power under a root, whose gradient at zero is infinite


def num_bins(kernel_size: int) -> int:
    """The number of frequencies F of a window, including 0 and half the sample rate.

    Example
    -------
    >>> num_bins(256)
    129
    """
    return kernel_size // 2 + 1


class _Fourier(nn.Module):
    """The sizes of the codec, and its window: the square root of a Hann window."""

    takes_lengths = True

    def __init__(self, kernel_size: int, stride: int):
        super().__init__()
        check_stride(kernel_size, stride)
        if kernel_size % 2 or kernel_size % stride or kernel_size == stride:
            raise ValueError(
                f"kernel_stride is {stride}, kernel_size {kernel_size}: a spectrogram's windows "
                "overlap, so the kernel must be even and two, three or more times the stride"
            )
        self.kernel_size, self.stride = kernel_size, stride
        # zeros in front, so that all samples are in the same number of windows
        self.margin = kernel_size - stride
        window = torch.hann_window(kernel_size, dtype=torch.float64).sqrt()
        self.register_buffer("window", self._scale(window).float(), persistent=False)

    def _scale(self, window):
        """The encoder's window is used as it is."""
        return window

    def _widen(self, x):
        """In the window's precision or a wider one: transforms are not computed in less."""
        return x.to(torch.promote_types(x.dtype, self.window.dtype))


class SpectralEncoder(_Fourier):
    """Short-time Fourier transform: the spectrum X, and jX, as features.

    Features are the real and imaginary parts of X, then those of jX. Two real masks a and b, which
    are multiplied with features as everywhere in SpeechBrain, then make a complex mask:
    (a + jb) X. Nothing here is learned. All samples are in the same number of windows, so that
    `SpectralDecoder` restores the mixture, including its first and last samples.

    Arguments
    ---------
    kernel_size : int
        Length of the window in samples, even.
    stride : int
        Hop in samples, a divisor of `kernel_size`.

    Example
    -------
    >>> encoder, mixture = SpectralEncoder(32, 16), torch.randn(2, 100)
    >>> features = encoder(mixture)
    >>> features.shape
    torch.Size([2, 68, 8])
    >>> mask = torch.tensor([1.0, 0.0]).repeat_interleave(34).view(1, 68, 1)
    >>> again = SpectralDecoder(32, 16)(mask * features)[:, :100]
    >>> bool(torch.allclose(again, mixture, atol=1e-5))
    True
    """

    def forward(self, mixture, lengths=None):
        """Like `papez_lobes.codec.Encoder.forward`: mixture [B, T] to features [B, 4 F, L]."""
        check_mixture(mixture)
        size = mixture.shape[1]
        frames = self._frames(size)
        if lengths is not None:
            mixture = mixture.masked_fill(~length_mask(lengths, size), 0)
        mixture = self._widen(self._pad(mixture, frames))
        windows = mixture.unfold(1, self.kernel_size, self.stride) * self.window
        spectra = torch.fft.rfft(windows)  # [B, L, F]
        real, imaginary = spectra.real, spectra.imag
        features = torch.cat([real, imaginary, -imaginary, real], dim=-1).transpose(1, 2)
        if lengths is None:
            return features
        return features, to_relative(self._frames(to_counts(lengths, size)), frames)

    def _pad(self, mixture, frames):
        """A mixture with zeros around it, as long as its frames need."""
        needed = (frames - 1) * self.stride + self.kernel_size
        return F.pad(mixture, (self.margin, needed - self.margin - mixture.shape[1]))

    def _frames(self, size):
        """The number of frames of so many samples, with the zeros around them."""
        return num_frames(size + 2 * self.margin, self.kernel_size, self.stride)


class SpectralDecoder(_Fourier):
    """Features of one speaker to a waveform: inverse transforms, overlapped and added.

    Arguments are those of the encoder.

    Example
    -------
    >>> SpectralDecoder(32, 16)(torch.randn(2, 68, 8)).shape
    torch.Size([2, 128])
    """

    def forward(self, features, lengths=None):
        """Like `papez_lobes.codec.Decoder.forward`: features [B, 4 F, L] to [B, L * stride].

        The features are two spectra, which are added up. Lengths are not needed, since frames
        beyond an item's length do not reach its samples.
        """
        first, second = self._widen(features).chunk(2, dim=1)
        spectrum = (first + second).transpose(1, 2)  # [B, L, 2 F]
        spectra = torch.complex(*spectrum.chunk(2, dim=-1))  # [B, L, F]
        windows = torch.fft.irfft(spectra, self.kernel_size) * self.window
        return overlap_add(windows, self.stride)[:, self.margin :]

    def _scale(self, window):
        """Scale so that products with the encoder's window, overlapped, add up to one."""
        overlap = window.square().view(-1, self.stride).sum(dim=0)
        return window / overlap.repeat(self.kernel_size // self.stride)


class SpectralMaskNet(MaskNet):
    """Papez's mask network on magnitudes, with a complex mask for each frequency and frame.

    Magnitudes are divided by the mixture's level and raised to the power of 0.3. Masks have no
    bounds. Those of an untrained network are near one half.

    Arguments
    ---------
    kernel_size : int
        The codec's.
    dim, num_spks, transformer, convolution
        See `papez_lobes.masknet.MaskNet`.
    memory : papez_lobes.memory.WorkingMemory
        The first state of the memory slots; its width is the number of frequencies.

    Example
    -------
    >>> from papez_lobes.block import RecurrentBlock
    >>> from papez_lobes.halting import Halting
    >>> from papez_lobes.memory import WorkingMemory
    >>> from papez_lobes.recurrent import RecurrentTransformer
    >>> block = RecurrentBlock(8, 2, 16, num_steps=6, num_slots=2, chunk_tokens=4)
    >>> memory, loop = WorkingMemory(2, num_bins(32)), RecurrentTransformer(block, Halting())
    >>> masknet, features = SpectralMaskNet(32, 8, 2, memory, loop), torch.randn(3, 68, 20)
    >>> masks = masknet(features)
    >>> masks.shape, bool(torch.allclose(masks, masknet(9 * features), atol=1e-4))
    (torch.Size([2, 3, 68, 20]), True)
    """

    def __init__(
        self, kernel_size: int, dim: int, num_spks: int, memory: nn.Module,
        transformer: nn.Module, convolution: nn.Module | None = None,
    ):
        check_options(num_spks=num_spks)
        bins = num_bins(kernel_size)
        if memory.dim != bins:
            raise ValueError(f"the memory's width is {memory.dim}: it must be the number of "
                             f"frequencies, {bins} for a kernel_size of {kernel_size}")
        super().__init__(
            dim, num_spks, memory, transformer,
            embed=NormedMLP(bins + 1, dim), head=NormedMLP(dim, 2 * bins * num_spks, hidden=dim),
            convolution=convolution,
        )

    def forward(self, features, lengths=None, return_trace=False):
        """Like `MaskNet.forward`, for features [B, 4 F, L] of `SpectralEncoder`."""
        return super().forward(self._loudness(features, lengths), lengths, return_trace)

    def _loudness(self, features, lengths):
        """Compressed magnitudes [B, F, L], whatever the level of the mixture."""
        real, imaginary, _, _ = features.chunk(4, dim=1)
        power = real.square() + imaginary.square()
        count = power.shape[2]
        if lengths is not None:
            power = power.masked_fill(~length_mask(lengths, count).unsqueeze(1), 0)
            count = to_counts(lengths, count)
        level = _root(self._mean_power(power, count))[:, None, None].clamp(min=SILENCE)
        return (_root(power) / level + FLOOR) ** POWER

    def _mean_power(self, power, count):
        """The mean [B] of power [B, F, L] over F frequencies and so many frames."""
        return power.sum(dim=(1, 2)) / (count * power.shape[1])

    def _bound(self, masks):
        """Masks [B, L, C, 2 F] have no bounds; those of an untrained network are near one half."""
        real, imaginary = masks.chunk(2, dim=-1)
        real = real + 0.5
        return torch.cat([real, real, imaginary, imaginary], dim=-1)


def _root(power):
    """The square root, with a finite gradient at zero."""
    return (power + EPS).sqrt()
