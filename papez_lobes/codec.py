"""Waveform to features and back. Owns the length arithmetic: how many tokens for T samples."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_whole
from papez_lobes.lengths import check_mixture, to_counts, to_mask, to_relative
from papez_lobes.norms import TimeNorm


def num_frames(num_samples, kernel_size, stride):
    """Frames that cover every sample: at least 1; works on ints and on integer tensors.

    Where (T - kernel) is a multiple of the stride this is what an unpadded convolution gives.

    Example
    -------
    >>> [num_frames(t, 16, 8) for t in (1, 16, 17, 24, 25)]
    [1, 1, 2, 2, 3]
    """
    missing = num_samples - kernel_size
    missing = missing.clamp(min=0) if torch.is_tensor(missing) else max(missing, 0)
    return (missing + stride - 1) // stride + 1


def check_stride(kernel_size, kernel_stride):
    """Raises ValueError if a codec's kernel or stride is no whole number, or skips samples."""
    check_whole("kernel_size", kernel_size)
    check_whole("kernel_stride", kernel_stride)
    if kernel_stride > kernel_size:
        raise ValueError(
            f"kernel_stride is {kernel_stride}, kernel_size {kernel_size}: "
            "the stride must be between 1 and the kernel size, or samples would be skipped"
        )


class Encoder(nn.Module):
    """Learned filterbank: convolution, instance norm over time, leaky ReLU, linear map.

    Unlike the authors' it covers every sample (up to stride - 1 zeros are appended) and takes
    inputs of any length from one sample on. Source: the authors' code (papers' Sec. 2.1 Encoder).

    Arguments
    ---------
    out_channels : int
        Width N of the features.
    kernel_size, stride : int
        In samples; tokens come at sample_rate / stride per second.

    Example
    -------
    >>> encoder = Encoder(out_channels=8, kernel_size=16, stride=8)
    >>> encoder(torch.randn(2, 100)).shape
    torch.Size([2, 8, 12])
    >>> features, lengths = encoder(torch.randn(2, 100), torch.tensor([1.0, 0.5]))
    >>> (lengths * 12).tolist()
    [12.0, 6.0]
    """

    def __init__(self, out_channels, kernel_size, stride):
        super().__init__()
        check_whole("N_encoder_out", out_channels)
        check_stride(kernel_size, stride)
        self.conv = nn.Conv1d(1, out_channels, kernel_size, stride)
        self.norm = TimeNorm(out_channels)
        self.pointwise = nn.Linear(out_channels, out_channels)

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
            Features [B, N, L]; with `lengths` also their relative lengths [B].

        Raises
        ------
        ValueError
            If the mixture is not a non-empty floating point [B, T].
        """
        check_mixture(mixture)
        kernel_size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        size = mixture.shape[1]
        frames = num_frames(size, kernel_size, stride)
        mask = None
        if lengths is not None:
            counts = to_counts(lengths, size)
            mixture = mixture.masked_fill(~to_mask(counts, size), 0)
            frame_counts = num_frames(counts, kernel_size, stride)
            mask = to_mask(frame_counts, frames)
        mixture = F.pad(mixture, (0, (frames - 1) * stride + kernel_size - size))
        features = self.conv(mixture.unsqueeze(1)).transpose(1, 2)  # [B, L, N]
        features = F.leaky_relu(self.norm(features, mask), 0.01)
        features = self.pointwise(features).transpose(1, 2)  # [B, N, L]
        if lengths is None:
            return features
        return features, to_relative(frame_counts, frames)


class Decoder(nn.Module):
    """Features back to a waveform: linear map, instance norm, leaky ReLU, transposed convolution.

    Arguments
    ---------
    in_channels : int
        Width N of the features.
    kernel_size, stride : int
        As the encoder's.

    Example
    -------
    >>> Decoder(in_channels=8, kernel_size=16, stride=8)(torch.randn(2, 8, 12)).shape
    torch.Size([2, 104])
    """

    def __init__(self, in_channels, kernel_size, stride):
        super().__init__()
        check_whole("N_encoder_out", in_channels)
        check_stride(kernel_size, stride)
        self.pointwise = nn.Linear(in_channels, in_channels)
        self.norm = TimeNorm(in_channels)
        self.deconv = nn.ConvTranspose1d(in_channels, 1, kernel_size, stride)

    def forward(self, features, lengths=None):
        """Decode the features of one speaker.

        Arguments
        ---------
        features : torch.Tensor
            [B, N, L].
        lengths : torch.Tensor, optional
            [B], relative to L. Frames beyond an item's length add nothing to its samples.

        Returns
        -------
        torch.Tensor
            [B, (L - 1) * stride + kernel_size]: at least as long as what was encoded; the
            caller cuts it.
        """
        mask = None if lengths is None else to_mask(
            to_counts(lengths, features.shape[2]), features.shape[2]
        )
        features = F.leaky_relu(self.norm(self.pointwise(features.transpose(1, 2)), mask), 0.01)
        if mask is not None:
            features = features.masked_fill(~mask.unsqueeze(-1), 0)
        # the transposed convolution to one channel is a matrix product and an overlap-add
        kernel_size, stride = self.deconv.kernel_size[0], self.deconv.stride[0]
        frames = F.linear(features, self.deconv.weight.squeeze(1).T).transpose(1, 2)  # [B, k, L]
        size = (frames.shape[2] - 1) * stride + kernel_size
        waveform = F.fold(frames, (1, size), (1, kernel_size), stride=(1, stride))
        return waveform.flatten(1) + self.deconv.bias
