"""Length-aware norm over time, an MLP with it, and layer norm with one affine per step."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.rows import by_rows, row_blocks

EPS = 1e-5


class TimeNorm(nn.Module):
    """Instance norm over time: each item and channel by its own mean and variance.

    Equal to `torch.nn.InstanceNorm1d(affine=True)` on the valid positions, for any number of
    them: a single position, or a silent channel, gives the bias. Statistics are taken in float32
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

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x, mask=None):
        """Normalise x [B, L, N] with the statistics of the positions where mask [B, L] is True.

        Positions outside the mask get the same affine map; their values mean nothing.
        """
        return self.normalise(x, *self.statistics(x, mask))

    def statistics(self, x, mask=None):
        """Mean and scale, [B, 1, N] each, of x [B, L, N]; see `forward`."""
        x = _wide(x)
        if mask is None:
            mean = x.mean(dim=1, keepdim=True)
            # not torch.var_mean, which is several times slower over an axis that is not the last
            squares = sum(
                torch.linalg.vector_norm(x[:, block] - mean, dim=1, keepdim=True).square()
                for block in row_blocks(x, dim=1)
            )
            variance = squares / x.shape[1]
        else:
            valid = mask.unsqueeze(-1)
            count = valid.sum(dim=1, keepdim=True)
            mean = x.masked_fill(~valid, 0).sum(dim=1, keepdim=True) / count
            variance = (x - mean).masked_fill(~valid, 0).square().sum(dim=1, keepdim=True) / count
        return mean, self.weight * torch.rsqrt(variance + EPS)

    def normalise(self, x, mean, scale):
        """x [B, L, N] by statistics; each position by itself."""
        return torch.addcmul(self.bias, _wide(x) - mean, scale)


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


class StepLayerNorm(nn.Module):
    """Layer norm over channels, with one gain and bias per recurrence step.

    One [R, N] parameter each, not R modules: a loop that stops early must not leave parameters
    without a gradient, which aborts distributed training.

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

    def __init__(self, num_steps, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_steps, dim))
        self.bias = nn.Parameter(torch.zeros(num_steps, dim))

    @torch.no_grad()
    def repeat_from(self, step):
        """Make the affines of all later steps that of `step` (0-based)."""
        for affine in (self.weight, self.bias):
            affine[step + 1 :] = affine[step]

    def forward(self, x, step):
        """Normalise x [..., N] with the affine of `step` (0-based)."""
        return F.layer_norm(x, x.shape[-1:], self.weight[step], self.bias[step], EPS)


class SharedLayerNorm(nn.LayerNorm):
    """Layer norm with the same gain and bias at every step, in place of `StepLayerNorm` (an
    ablation).

    Arguments
    ---------
    num_steps : int
        Not used: of any number.
    dim : int
        Number of channels N.

    Example
    -------
    >>> SharedLayerNorm(16, 8)(torch.randn(2, 5, 8), step=3).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, num_steps, dim):
        super().__init__(dim, EPS)

    def forward(self, x, step):
        """Normalise x [..., N]."""
        return super().forward(x)


class NormedMLP(nn.Module):
    """Linear, norm over time, PReLU, linear: the first and the last part of the mask network.

    The paper's code writes the linear maps as convolutions of width 1; the channels come last
    here, which makes them plain matrix products.

    Arguments
    ---------
    dim_in, dim_out : int
        Channels before and after.
    hidden : int, optional
        Channels in between; None: `dim_out`.

    Example
    -------
    >>> NormedMLP(5, 8)(torch.randn(2, 7, 5)).shape
    torch.Size([2, 7, 8])
    """

    def __init__(self, dim_in, dim_out, hidden=None):
        super().__init__()
        hidden = dim_out if hidden is None else hidden
        self.linear_in = nn.Linear(dim_in, hidden)
        self.norm = TimeNorm(hidden)
        self.activation = nn.PReLU()
        self.linear_out = nn.Linear(hidden, dim_out)

    def forward(self, x, mask=None):
        """x [B, L, dim_in], mask [B, L] of valid positions -> [B, L, dim_out]."""
        x = self.linear_in(x)
        finish = partial(self._finish, *self.norm.statistics(x, mask))
        return by_rows(finish, x, dim=1)

    def _finish(self, mean, scale, x):
        return self.linear_out(self.activation(self.norm.normalise(x, mean, scale)))
