"""The learned codec: waveform to features and back."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_options
from papez_lobes.lengths import check_mixture, length_mask, to_counts, to_mask, to_relative
from papez_lobes.norms import TimeNorm


def num_frames(num_samples, kernel_size, stride):
    """The number of frames L that cover T samples, at least 1.

    Takes ints and integer tensors. Where T - kernel_size is a multiple of the stride, a
    convolution without padding gives as many.

    Example
    -------
    >>> [num_frames(t, 16, 8) for t in (1, 16, 17, 24, 25)]
    [1, 1, 2, 2, 3]
    """
    missing = num_samples - kernel_size
    missing = missing.clamp(min=0) if torch.is_tensor(missing) else max(missing, 0)
    return (missing + stride - 1) // stride + 1


def check_stride(kernel_size: int, kernel_stride: int):
    """Raise ValueError if kernel or stride is not a whole number, or if samples are skipped."""
    check_options(kernel_size=kernel_size, kernel_stride=kernel_stride)
    if kernel_stride > kernel_size:
        raise ValueError(
            f"kernel_stride is {kernel_stride}, kernel_size {kernel_size}: "
            "the stride must be between 1 and the kernel size, or samples would be skipped"
        )


def overlap_add(frames: torch.Tensor, stride: int) -> torch.Tensor:
    """Sum frames [B, L, k] that begin `stride` samples apart: [B, (L - 1) * stride + k].

    Equal to `torch.nn.functional.fold`, which takes several times as long, as does its gradient.

    Example
    -------
    >>> overlap_add(torch.ones(1, 3, 4), stride=2).tolist()
    [[1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0]]
    """
    _, count, kernel_size = frames.shape
    blocks = F.pad(frames, (0, -kernel_size % stride)).unflatten(2, (-1, stride))
    places = blocks.shape[2]
    total = sum(F.pad(blocks[:, :, place], (0, 0, place, places - 1 - place))
                for place in range(places))  # [B, L + places - 1, stride]
    return total.flatten(1)[:, :(count - 1) * stride + kernel_size]


class Encoder(nn.Module):
    """Learned filterbank (paper, Sec. 2.1): convolution, norm over time, leaky ReLU, linear map.

    It takes inputs of any length from one sample on. Unlike the authors' it covers every sample:
    up to stride - 1 zeros are appended.

    Arguments
    ---------
    out_channels : int
        Channels N of the features.
    kernel_size : int
        In samples.
    stride : int
        In samples. There are sample_rate / stride tokens per second.

    Example
    -------
    >>> encoder = Encoder(out_channels=8, kernel_size=16, stride=8)
    >>> encoder(torch.randn(2, 100)).shape
    torch.Size([2, 8, 12])
    >>> features, lengths = encoder(torch.randn(2, 100), torch.tensor([1.0, 0.5]))
    >>> (lengths * 12).tolist()
    [12.0, 6.0]
    """

    takes_lengths = True

    def __init__(self, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        check_options(N_encoder_out=out_channels)
        check_stride(kernel_size, stride)
        self.conv = nn.Conv1d(1, out_channels, kernel_size, stride)
        self.norm = TimeNorm(out_channels)
        self.pointwise = nn.Linear(out_channels, out_channels)

    def forward(self, mixture: torch.Tensor, lengths: torch.Tensor | None = None):
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
            mixture = mixture.masked_fill(~length_mask(lengths, size), 0)
            frame_counts = num_frames(to_counts(lengths, size), kernel_size, stride)
            mask = to_mask(frame_counts, frames)
        mixture = F.pad(mixture, (0, (frames - 1) * stride + kernel_size - size))
        features = self.conv(mixture.unsqueeze(1)).transpose(1, 2)  # [B, L, N]
        features = F.leaky_relu(self.norm(features, mask), 0.01)
        features = self.pointwise(features).transpose(1, 2)  # [B, N, L]
        if lengths is None:
            return features
        return features, to_relative(frame_counts, frames)


class Decoder(nn.Module):
    """Features to a waveform: linear map, norm over time, leaky ReLU, transposed convolution.

    Arguments
    ---------
    in_channels : int
        Channels N of the features.
    kernel_size, stride : int
        The encoder's.

    Example
    -------
    >>> Decoder(in_channels=8, kernel_size=16, stride=8)(torch.randn(2, 8, 12)).shape
    torch.Size([2, 104])
    """

    takes_lengths = True

    def __init__(self, in_channels: int, kernel_size: int, stride: int):
        super().__init__()
        check_options(N_encoder_out=in_channels)
        check_stride(kernel_size, stride)
        self.pointwise = nn.Linear(in_channels, in_channels)
        self.norm = TimeNorm(in_channels)
        self.deconv = nn.ConvTranspose1d(in_channels, 1, kernel_size, stride)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decode the features of one speaker.

        Arguments
        ---------
        features : torch.Tensor
            [B, N, L].
        lengths : torch.Tensor, optional
            [B], relative to L. Frames beyond an item's length do not reach its samples.

        Returns
        -------
        torch.Tensor
            [B, (L - 1) * stride + kernel_size], at least as long as what was encoded. The caller
            cuts it.
        """
        mask = length_mask(lengths, features.shape[2])
        features = F.leaky_relu(self.norm(self.pointwise(features.transpose(1, 2)), mask), 0.01)
        if mask is not None:
            features = features.masked_fill(~mask.unsqueeze(-1), 0)
        # a transposed convolution to one channel is a matrix product and an overlap-add
        frames = F.linear(features, self.deconv.weight.squeeze(1).T)  # [B, L, kernel_size]
        return overlap_add(frames, self.deconv.stride[0]) + self.deconv.bias
