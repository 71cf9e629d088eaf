"""Linear maps for inference on a CPU: with prepacked weights, and in 8-bit integers."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.devices import cpu_has
from papez_lobes.fast.private import pack_weight, packed_linear

_INT8_MAX = 127


def rectified(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """relu(linear(x)), in one operation where the map has one."""
    if hasattr(linear, "rectified"):
        return linear.rectified(x)
    return F.relu(linear(x), inplace=not torch.is_grad_enabled())


class PrepackedLinear(nn.Linear):
    """A linear map in float32 with a weight in the order in which oneDNN's product reads it.

    It is at least a tenth faster than torch's, and equal but for rounding. Training, loading and
    moving drop the packed weight. Without it, with gradients and under autocast, torch's product
    is used.

    Arguments
    ---------
    linear : torch.nn.Linear
        In float32 on a CPU. Its parameters are shared.

    Example
    -------
    >>> linear, x = torch.nn.Linear(64, 32), torch.randn(10, 64)
    >>> with torch.inference_mode():
    ...     result = PrepackedLinear(linear)(x)
    >>> bool(torch.allclose(result, linear(x), atol=1e-5))
    True
    """

    def __init__(self, linear: nn.Linear):
        sizes = linear.in_features, linear.out_features
        super().__init__(*sizes, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._packed = pack_weight(linear.weight)
        self.training = linear.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., N_in] -> [..., N_out]."""
        if self._is_usable(x):
            return packed_linear(x, self._packed, self.bias)
        return super().forward(x)

    def rectified(self, x: torch.Tensor) -> torch.Tensor:
        """relu of the map, in one operation."""
        if self._is_usable(x):
            return packed_linear(x, self._packed, self.bias, "relu")
        return F.relu(super().forward(x))

    def _is_usable(self, x):
        """True if the packed weight may be used for this input."""
        return (
            self._packed is not None and x.dtype == torch.float32 and x.numel() > 0
            and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        )

    def train(self, mode=True):
        """Set training or evaluation mode; a map that is trained is no longer packed."""
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, *args, **kwargs):  # moves and casts of a module
        self._packed = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._packed = None
        return super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self):  # for copies and files, which cannot hold packed weights
        return self.__dict__ | {"_packed": None}


class Int8Linear(nn.Module):
    """A linear map in 8-bit integers, by torch's own dynamically quantised product.

    Weights have one scale per output channel. Inputs have one scale for all rows of a call, so
    that a row's result depends a little on the others.

    Arguments
    ---------
    linear : torch.nn.Linear
        In float32.

    Example
    -------
    >>> linear = torch.nn.Linear(64, 32)
    >>> x = torch.randn(10, 64)
    >>> with torch.inference_mode():
    ...     error = Int8Linear(linear)(x) - linear(x)
    >>> bool(error.norm() < 0.03 * linear(x).norm())
    True
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo().tiny).double() / _INT8_MAX
        zeros = torch.zeros(len(scales), dtype=torch.long)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self._packed = torch.ops.quantized.linear_prepack(weight, self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., N_in] -> [..., N_out], float32."""
        return self._apply_packed(torch.ops.quantized.linear_dynamic, x)

    def rectified(self, x: torch.Tensor) -> torch.Tensor:
        """relu of the map, in one operation."""
        return self._apply_packed(torch.ops.quantized.linear_relu_dynamic, x)

    def _apply_packed(self, operation, x):
        """Run a quantised product."""
        # without units for sums of 8-bit products, full 8 bits would overflow their 16
        reduced = not cpu_has("vnni")
        return operation(x.float(), self._packed, reduced)
