"""Norms: over time with padding, an MLP with it, and layer norm with one affine per step."""

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-5


class TimeNorm(nn.Module):
    """Instance norm over time: each channel of each item has its own mean and variance.

    Equal to `torch.nn.InstanceNorm1d(affine=True)` on the valid positions, of which there may be
    any number: a single position, or a silent channel, gives the bias. Statistics are in float32
    or wider.

    Arguments
    ---------
    dim : int
        Number of channels N.

    Example
    -------
    >>> norm, x = TimeNorm(4), torch.randn(2, 10, 4)
    >>> alone = norm(x[1:, :6])
    >>> mask = torch.tensor([[True] * 10, [True] * 6 + [False] * 4])
    >>> bool(torch.allclose(norm(x, mask)[1:, :6], alone, atol=1e-6))
    True
    """

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise x [B, L, N] with the statistics of the valid positions, True in mask [B, L].

        Without a mask all are valid. Values on positions that are not valid mean nothing.
        """
        return self.normalise(x, *self.statistics(x, mask))

    def statistics(self, x, mask=None):
        """Mean and scale [B, 1, N] of x [B, L, N]; the scale includes the gain."""
        x = _wide(x)
        if mask is None:
            mean = x.mean(dim=1, keepdim=True)
            variance = self.squares(x, mean) / x.shape[1]
        else:
            valid = mask.unsqueeze(-1)
            count = valid.sum(dim=1, keepdim=True)
            mean = x.masked_fill(~valid, 0).sum(dim=1, keepdim=True) / count
            variance = (x - mean).masked_fill(~valid, 0).square().sum(dim=1, keepdim=True) / count
        return mean, self.weight * torch.rsqrt(variance + EPS)

    def squares(self, x, mean):
        """The sum of squared deviations over time, [B, 1, N]."""
        # torch.var_mean is several times slower over an axis that is not the last
        return torch.linalg.vector_norm(x - mean, dim=1, keepdim=True).square()

    def normalise(self, x, mean, scale):
        """x [B, L, N] with statistics that are given."""
        return torch.addcmul(self.bias, _wide(x) - mean, scale)


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


class StepLayerNorm(nn.Module):
    """Layer norm over channels, with one gain and bias per recurrence step.

    Gain and bias are one [R, N] parameter each, not R modules: parameters of steps that a loop
    does not reach would have no gradient, which aborts distributed training.

    Arguments
    ---------
    num_steps : int
        Steps R that exist.
    dim : int
        Number of channels N.

    Example
    -------
    >>> StepLayerNorm(16, 8)(torch.randn(2, 5, 8), step=3).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, num_steps: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_steps, dim))
        self.bias = nn.Parameter(torch.zeros(num_steps, dim))

    @torch.no_grad()
    def repeat_from(self, step: int):
        """Copy gain and bias of `step`, counted from 0, to all later steps."""
        for affine in (self.weight, self.bias):
            affine[step + 1 :] = affine[step]

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Normalise x [..., N] with gain and bias of `step`, counted from 0."""
        return F.layer_norm(x, x.shape[-1:], self.weight[step], self.bias[step], EPS)


class NormedMLP(nn.Module):
    """Linear map, norm over time, PReLU, linear map: both ends of the mask network.

    The paper's code writes the linear maps as convolutions of width 1. Channels come last here,
    which makes them matrix products.

    Arguments
    ---------
    dim_in : int
        Channels of the input.
    dim_out : int
        Channels of the output.
    hidden : int, optional
        Channels in between. None: `dim_out`.

    Example
    -------
    >>> NormedMLP(5, 8)(torch.randn(2, 7, 5)).shape
    torch.Size([2, 7, 8])
    """

    def __init__(self, dim_in: int, dim_out: int, hidden: int | None = None):
        super().__init__()
        hidden = dim_out if hidden is None else hidden
        self.linear_in = nn.Linear(dim_in, hidden)
        self.norm = TimeNorm(hidden)
        self.activation = nn.PReLU()
        self.linear_out = nn.Linear(hidden, dim_out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map x [B, L, dim_in] to [B, L, dim_out]; mask [B, L] is True on valid positions."""
        x = self.norm(self.linear_in(x), mask)
        return self.linear_out(self.activation(x))
