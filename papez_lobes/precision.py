"""What trained modules compute in: single precision, half precision, or 8-bit integers."""

import logging
from types import MethodType

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.errors import UserError

logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16", "int8")
_INT8_MAX = 127


class Linear(nn.Linear):
    """torch's linear map, whose product can also be had without the bias, or rectified."""

    def product(self, x):
        """x [..., N_in] -> [..., N_out], without the bias."""
        return F.linear(x, self.weight)

    def rectified(self, x):
        """x [..., N_in] -> [..., N_out], negative results as zeros."""
        # what a batch's product gives is a view; see `papez_lobes.packing` on changing those
        return F.relu(self(x), inplace=not torch.is_grad_enabled())


class PrepackedLinear(Linear):
    """A linear map in single precision, for inference on a CPU: oneDNN's, from a weight that lies
    as its product reads it. Faster than torch's by a tenth and more; equal but for rounding.

    What changes the weight (training, loading, moving) also drops the packed one, and wherever
    that is missing or cannot be used (with gradients, under autocast) torch's product is taken.

    Arguments
    ---------
    linear : torch.nn.Linear
        In single precision on a CPU; its parameters are shared.

    Example
    -------
    >>> linear, x = torch.nn.Linear(64, 32), torch.randn(10, 64)
    >>> with torch.inference_mode():
    ...     result = PrepackedLinear(linear)(x)
    >>> bool(torch.allclose(result, linear(x), atol=1e-5))
    True
    """

    def __init__(self, linear):
        sizes = linear.in_features, linear.out_features
        super().__init__(*sizes, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.training = linear.training

    @staticmethod
    def is_supported(linear):
        """Whether this torch has the operation for that map."""
        return (
            torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
            and linear.weight.device.type == "cpu"
            and linear.weight.dtype == torch.float32
        )

    def forward(self, x):
        """x [..., N_in] -> [..., N_out]."""
        return self._apply_packed(x, self.bias, "none") if self._usable(x) else super().forward(x)

    def product(self, x):
        """The same without the bias."""
        return self._apply_packed(x, None, "none") if self._usable(x) else super().product(x)

    def rectified(self, x):
        """The same, negative results as zeros."""
        return self._apply_packed(x, self.bias, "relu") if self._usable(x) else super().rectified(x)

    def _apply_packed(self, x, bias, activation):
        operation = torch.ops.mkldnn._linear_pointwise
        return operation(x, self._packed, bias, activation, [], "")

    def _usable(self, x):
        return (
            self._packed is not None and x.dtype == torch.float32 and x.numel() > 0
            and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        )

    def train(self, mode=True):
        """Training or evaluation mode; a map that is trained is no longer packed."""
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, *args, **kwargs):  # every move and cast of a module comes by here
        self._packed = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._packed = None
        return super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self):  # for copies and files, which cannot hold what is packed
        return self.__dict__ | {"_packed": None}


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
        return _apply_int8(x, self._packed)

    def product(self, x):
        """The same without the bias, of what was a `Linear`."""
        return _apply_int8(x, self._product)

    def rectified(self, x):
        """The same, negative results as zeros."""
        return _apply_int8(x, self._packed, torch.ops.quantized.linear_relu_dynamic)


def lower_precision(modules, dtype, device="cpu"):
    """Have trained modules compute in another precision from now on, for inference.

    Half precision is torch's autocast, which keeps norms, halting and sums in single precision.
    int8 replaces the linear maps; on a CPU with units for bfloat16, attention is in that; all else
    stays in single precision. float32 on a CPU replaces the linear maps too, by `PrepackedLinear`.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        Changed in place.
    dtype : str
        One of `DTYPES`.
    device : str or torch.device
        Where the modules are.

    Raises
    ------
    UserError
        The dtype is unknown; int8 on a GPU, or without linear maps.

    Example
    -------
    >>> from papez_lobes.separator import separate
    >>> from papez_lobes.config.separator_files import build_modules, separator_file
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
        if not sum(_replace_linear(module, Int8Linear) for module in modules.values()):
            raise UserError("int8: this separator has no linear maps of torch's to compute in int8")
        if _has("avx512_bf16") or _has("amx_tile"):
            _attend_in(modules, torch.bfloat16)
    elif dtype == "float32":
        for module in modules.values():
            _replace_linear(module, _prepacked)
    else:
        if kind == "cpu" and not _has_products_in(dtype):
            logger.warning(f"{dtype}: this CPU has no instructions for it, which makes it many "
                           "times slower than float32; int8 is for any CPU")
        for module in modules.values():
            forward = torch.autocast(kind, getattr(torch, dtype))(type(module).forward)
            module.forward = MethodType(forward, module)  # a copy of the module has its own


def _replace_linear(module, make):
    """Replace all linear maps below a module by what `make` gives for each; how many there were."""
    count = 0
    for name, child in module.named_children():
        # other subclasses may use their weights in other ways
        if type(child) in (nn.Linear, Linear, PrepackedLinear):
            setattr(module, name, make(child))
            count += 1
        else:
            count += _replace_linear(child, make)
    return count


def _attend_in(modules, dtype):
    """Set what our attention computes in, wherever there is one."""
    for child in (child for module in modules.values() for child in module.modules()):
        if hasattr(child, "attention_dtype"):
            child.attention_dtype = dtype


def _prepacked(linear):
    return PrepackedLinear(linear) if PrepackedLinear.is_supported(linear) else linear


def _apply_int8(x, packed, operation=torch.ops.quantized.linear_dynamic):
    # without units for 8-bit sums (VNNI) products of full 8 bits would overflow their 16
    reduced = not _has("vnni")
    return operation(x.float(), packed, reduced)


def _has(units):
    """Whether this CPU has units of that name, as torch calls them."""
    return getattr(torch.cpu, f"_is_{units}_supported", lambda: False)()


def _has_products_in(dtype):
    """Whether oneDNN, of which torch has its matrix products in half precision, can do without
    emulation on this CPU."""
    short = {"bfloat16": "bf16", "float16": "fp16"}[dtype]
    return getattr(torch.ops.mkldnn, f"_is_mkldnn_{short}_supported")()
