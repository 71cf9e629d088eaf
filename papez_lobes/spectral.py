"""Papez on a spectrogram: short-time Fourier transform, and the mask network on it.

In place of the learned filterbank of `papez_lobes.codec`. Its longer windows resolve the harmonics
of voices from the first training step on, and its tokens are fewer: `papez_small` is made of it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.codec import check_stride, num_frames
from papez_lobes.config.checks import check_whole
from papez_lobes.lengths import check_mixture, to_counts, to_mask, to_relative
from papez_lobes.masknet import MaskNet
from papez_lobes.norms import NormedMLP

POWER = 0.3  # of magnitudes, for the mask network: near to how loud they are heard
FLOOR = 1e-4  # of the mixture's level; what is quieter looks alike
SILENCE = 1e-8  # a level below which nothing is made louder
EPS = 1e-30  # power under a root, whose gradient has no value at zero


def num_bins(kernel_size):
    """Frequencies F of a window of that many samples, 0 and half the sample rate included.

    Example
    -------
    >>> num_bins(256)
    129
    """
    return kernel_size // 2 + 1


class _Fourier(nn.Module):
    """The sizes of a codec, and its window: the square root of Hann's."""

    def __init__(self, kernel_size, stride):
        super().__init__()
        check_stride(kernel_size, stride)
        if kernel_size % 2 or kernel_size % stride or kernel_size == stride:
            raise ValueError(
                f"kernel_stride is {stride}, kernel_size {kernel_size}: a spectrogram's windows "
                "overlap, so the kernel must be even and two, three or more times the stride"
            )
        self.kernel_size, self.stride = kernel_size, stride
        self.margin = kernel_size - stride  # zeros in front: samples are in equally many windows
        window = self._scaled(torch.hann_window(kernel_size, dtype=torch.float64).sqrt())
        self.register_buffer("window", window.float(), persistent=False)

    def _scaled(self, window):
        return window


class SpectralEncoder(_Fourier):
    """Short-time Fourier transform: the spectrum, and the same turned by 90 degrees, as features.

    Real and imaginary parts of X, then those of jX, so that two real masks a and b, multiplied with
    features as masks are everywhere, amount to a complex one: (a + jb) X. Nothing here is learned.
    Every sample is in as many windows as every other, so that `SpectralDecoder` gives the mixture
    back, first and last samples included.

    Arguments
    ---------
    kernel_size, stride : int
        The window's length, even, and the hop, which divides it, in samples.

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
        """Encode a batch of waveforms.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T], floating point, T >= 1.
        lengths : torch.Tensor, optional
            [B], relative. Samples beyond an item's length count as zeros, whatever they hold.

        Returns
        -------
        torch.Tensor or (torch.Tensor, torch.Tensor)
            Features [B, N, L] with N = 4 F; with `lengths` also their relative lengths [B].

        Raises
        ------
        ValueError
            If the mixture is not a non-empty floating point [B, T].
        """
        check_mixture(mixture)
        size = mixture.shape[1]
        frames = self._frames(size)
        if lengths is not None:
            counts = to_counts(lengths, size)
            mixture = mixture.masked_fill(~to_mask(counts, size), 0)
        behind = (frames - 1) * self.stride + self.kernel_size - self.margin - size
        mixture = F.pad(mixture, (self.margin, behind)).to(self._dtype(mixture))
        windows = mixture.unfold(1, self.kernel_size, self.stride) * self.window
        spectra = torch.fft.rfft(windows)  # [B, L, F]
        real, imaginary = spectra.real, spectra.imag
        features = torch.cat([real, imaginary, -imaginary, real], dim=-1).transpose(1, 2)
        if lengths is None:
            return features
        return features, to_relative(self._frames(counts), frames)

    def _frames(self, size):
        return num_frames(size + 2 * self.margin, self.kernel_size, self.stride)

    def _dtype(self, mixture):
        return torch.promote_types(mixture.dtype, self.window.dtype)


class SpectralDecoder(_Fourier):
    """Features of one speaker back to a waveform: inverse transforms, overlapped and added.

    Arguments
    ---------
    kernel_size, stride : int
        As the encoder's.

    Example
    -------
    >>> SpectralDecoder(32, 16)(torch.randn(2, 68, 8)).shape
    torch.Size([2, 128])
    """

    def forward(self, features, lengths=None):
        """Decode.

        Arguments
        ---------
        features : torch.Tensor
            [B, 4 F, L]: two spectra, which are added up.
        lengths : torch.Tensor, optional
            [B], relative to L. Not used: frames beyond an item's length reach none of its samples.

        Returns
        -------
        torch.Tensor
            [B, L * stride]: at least as long as what was encoded; the caller cuts it.
        """
        features = features.to(torch.promote_types(features.dtype, self.window.dtype))
        first, second = features.chunk(2, dim=1)
        spectrum = (first + second).transpose(1, 2)  # [B, L, 2 F]
        spectra = torch.complex(*spectrum.chunk(2, dim=-1))  # [B, L, F]
        windows = torch.fft.irfft(spectra, self.kernel_size) * self.window
        size = (windows.shape[1] - 1) * self.stride + self.kernel_size
        waveform = F.fold(
            windows.transpose(1, 2), (1, size), (1, self.kernel_size), stride=(1, self.stride)
        )
        return waveform.flatten(1)[:, self.margin :]

    def _scaled(self, window):
        """Such that products with the encoder's, overlapped, add up to one."""
        overlap = window.square().view(-1, self.stride).sum(dim=0)
        return window / overlap.repeat(self.kernel_size // self.stride)


class SpectralMaskNet(MaskNet):
    """Papez's mask network on magnitudes: a complex mask for each frequency, frame and speaker.

    Magnitudes are divided by the mixture's level and compressed (to the power of 0.3). Masks are
    without bounds and begin near to one half: estimates that all are half the mixture.

    Arguments
    ---------
    kernel_size : int
        The codec's.
    dim : int
        Channels N of the tokens.
    num_spks, memory, transformer
        See `papez_lobes.masknet.MaskNet`; the memory's width is the number of frequencies.

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

    def __init__(self, kernel_size, dim, num_spks, memory, transformer):
        check_whole("num_spks", num_spks)
        bins = num_bins(kernel_size)
        if memory.dim != bins:
            raise ValueError(f"the memory's width is {memory.dim}: it must be the number of "
                             f"frequencies, {bins} for a kernel_size of {kernel_size}")
        super().__init__(
            dim, num_spks, memory, transformer,
            embed=NormedMLP(bins + 1, dim), head=NormedMLP(dim, 2 * bins * num_spks, hidden=dim),
        )

    def forward(self, features, lengths=None, return_trace=False):
        """As `MaskNet.forward`, for features [B, 4 F, L] of `SpectralEncoder`; masks without
        bounds."""
        return super().forward(self._loudness(features, lengths), lengths, return_trace)

    def _loudness(self, features, lengths):
        """Compressed magnitudes [B, F, L], whatever the level of the mixture."""
        real, imaginary, _, _ = features.chunk(4, dim=1)
        power = real.square() + imaginary.square()
        bins, count = power.shape[1:]
        if lengths is not None:
            count = to_counts(lengths, count)
            power = power.masked_fill(~to_mask(count, power.shape[2]).unsqueeze(1), 0)
        level = _root(power.sum(dim=(1, 2)) / (count * bins))[:, None, None].clamp(min=SILENCE)
        return (_root(power) / level + FLOOR) ** POWER

    def _mask(self, x):
        real, imaginary = x.chunk(2, dim=-1)
        real = real + 0.5
        return torch.cat([real, real, imaginary, imaginary], dim=-1)


def _root(power):
    return (power + EPS).sqrt()
