"""What trained modules compute in: single precision, half precision, or 8-bit integers."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.errors import UserError

DTYPES = ("float32", "bfloat16", "float16", "int8")
_INT8_MAX = 127


class Linear(nn.Linear):
    """torch's linear map, whose product can also be had without the bias."""

    def product(self, x):
        """x [..., N_in] -> [..., N_out]."""
        return F.linear(x, self.weight)


class Int8Linear(nn.Module):
    """A linear map in 8-bit integers, for inference on a CPU.

    Weights have a scale per output channel; inputs are quantised as they come, with one scale for
    all rows of a call, so that a row's result depends a little on the others. torch's own
    operation does the work.

    Arguments
    ---------
    linear : torch.nn.Linear
        In single precision.

    Example
    -------
    >>> linear = torch.nn.Linear(64, 32)
    >>> x = torch.randn(10, 64)
    >>> with torch.inference_mode():
    ...     error = Int8Linear(linear)(x) - linear(x)
    >>> bool(error.norm() < 0.03 * linear(x).norm())
    True
    """

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo().tiny).double() / _INT8_MAX
        zeros = torch.zeros(len(scales), dtype=torch.long)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        pack = torch.ops.quantized.linear_prepack
        self.bias = None if linear.bias is None else linear.bias.detach()
        self._packed = pack(weight, self.bias)
        self._product = pack(weight, None) if hasattr(linear, "product") else None

    def forward(self, x):
        """x [..., N_in] -> [..., N_out], float32."""
        return _apply(x, self._packed)

    def product(self, x):
        """The same without the bias, of what was a `Linear`."""
        return _apply(x, self._product)


def lower_precision(modules, dtype, device="cpu"):
    """Have trained modules compute in another precision from now on, for inference.

    Half precision is torch's autocast, which keeps norms, halting and sums in single precision.
    int8 replaces the linear maps; all else stays in single precision.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        Changed in place.
    dtype : str
        One of `DTYPES`; 'float32' changes nothing.
    device : str or torch.device
        Where the modules are.

    Raises
    ------
    UserError
        The dtype is unknown; int8 on a GPU, or without linear maps.

    Example
    -------
    >>> from papez_lobes.separator import separate
    >>> from papez_lobes.knobs import build_modules, separator_file
    >>> modules = build_modules(separator_file("papez_small"), {"max_depth": 1})
    >>> lower_precision(modules, "int8")
    >>> separate(modules, torch.randn(1, 800)).shape
    torch.Size([1, 800, 2])
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: it must be one of {', '.join(DTYPES)}")
    kind = torch.device(device).type
    if dtype == "int8":
        if kind != "cpu":
            raise UserError(f"int8 is for CPUs, not for {kind}; take bfloat16 or float16 there")
        if not sum(_quantise(module) for module in modules.values()):
            raise UserError("int8: this separator has no linear maps of torch's to compute in int8")
    elif dtype != "float32":
        for module in modules.values():
            module.forward = torch.autocast(kind, getattr(torch, dtype))(module.forward)


def _quantise(module):
    """Replace all linear maps below a module; how many there were."""
    count = 0
    for name, child in module.named_children():
        if type(child) in (nn.Linear, Linear):  # subclasses may use their weights in other ways
            setattr(module, name, Int8Linear(child))
            count += 1
        else:
            count += _quantise(child)
    return count


def _apply(x, packed):
    # without units for 8-bit sums (VNNI) products of full 8 bits would overflow their 16
    reduced = not getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    return torch.ops.quantized.linear_dynamic(x.float(), packed, reduced)
