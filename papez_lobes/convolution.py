"""A convolution of tokens over time."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_options


class TemporalConvolution(nn.Module):
    """Residual depthwise convolution over time: x + convolution(x).

    It begins as the identity, so that it can be added to trained weights.

    Arguments
    ---------
    dim : int
        Channels N of the tokens.
    kernel_size : int
        In tokens, odd, so that as many are seen before a token as after it.

    Example
    -------
    >>> convolution, tokens = TemporalConvolution(dim=8), torch.randn(2, 20, 8)
    >>> bool((convolution(tokens) == tokens).all())
    True
    """

    def __init__(self, dim: int, kernel_size: int = 7):
        super().__init__()
        check_options(dim=dim, convolution_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"convolution_size is {kernel_size}: it must be odd")
        self.weight = nn.Parameter(torch.zeros(dim, 1, kernel_size))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Add to each token what the convolution sees around it.

        Arguments
        ---------
        tokens : torch.Tensor
            [B, L, N].
        mask : torch.Tensor, optional
            [B, L], bool: True on valid tokens; others count as zeros, as does what is before
            the first token and after the last. None: all are valid.

        Returns
        -------
        torch.Tensor
            [B, L, N].
        """
        seen = tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), 0)
        added = F.conv1d(
            seen.transpose(1, 2), self.weight, self.bias,
            padding=self.weight.shape[2] // 2, groups=self.weight.shape[0],
        )
        return tokens + added.transpose(1, 2)
