"""Precision in inference: single, half, or 8-bit integers."""

import logging
from collections.abc import Mapping
from types import MethodType

import torch
from torch import nn

from papez_lobes.devices import choose_quantised_engine, cpu_has, has_products_in, has_type
from papez_lobes.errors import UserError
from papez_lobes.fast import private
from papez_lobes.fast.linear import Int8Linear, PrepackedLinear
from papez_lobes.fast.lobes import BlockwiseAttention, swap_in

logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16", "int8")


def lower_precision(
    modules: Mapping[str, nn.Module], dtype: str, device: str | torch.device = "cpu"
):
    """Prepare trained modules for inference in a precision. It changes them in place.

    On a CPU the lobes compute by blocks of rows (`papez_lobes.fast.lobes`), and in float32 linear
    maps have prepacked weights. Half precision is torch's autocast, which keeps norms, halting and
    sums in float32. int8 replaces the linear maps; where the CPU has units for bfloat16, attention
    is in bfloat16, and everything else stays in float32.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        The parts of a separator.
    dtype : str
        One of `DTYPES`.
    device : str or torch.device
        The modules' device.

    Raises
    ------
    UserError
        The dtype is unknown, or the device or the separator cannot be used with it.

    Example
    -------
    >>> from papez_lobes.config.separator_files import build_modules, separator_file
    >>> from papez_lobes.separator import Separator
    >>> modules = build_modules(separator_file("papez_small"), {"max_depth": 1})
    >>> lower_precision(modules, "int8")
    >>> Separator(**modules)(torch.randn(1, 800)).shape
    torch.Size([1, 800, 2])
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: it must be one of {', '.join(DTYPES)}")
    kind = torch.device(device).type
    _check_supported(dtype, device, kind)
    if kind == "cpu":
        swap_in(modules)
    if dtype == "int8":
        if not sum(_replace_linear(module, Int8Linear) for module in modules.values()):
            raise UserError("int8: this separator has no linear maps of torch's to compute in int8")
        if cpu_has("avx512_bf16") or cpu_has("amx_tile"):
            for lobe in nn.ModuleDict(modules).modules():
                if isinstance(lobe, BlockwiseAttention):
                    lobe.attention_dtype = torch.bfloat16
    elif dtype == "float32":
        if kind == "cpu" and private.packs_linear_maps():
            for module in modules.values():
                _replace_linear(module, PrepackedLinear)
    else:
        for module in modules.values():
            forward = torch.autocast(kind, getattr(torch, dtype))(type(module).forward)
            module.forward = MethodType(forward, module)  # a copy of the module has its own


def _check_supported(dtype, device, kind):
    """Refuse a precision that the device does not have, and warn of one that is emulated."""
    if dtype == "int8":
        if kind != "cpu":
            raise UserError(f"int8 is for CPUs, not for {kind}; take bfloat16 or float16 there")
        if not choose_quantised_engine():
            raise UserError(
                "int8: this build of torch has no quantised engine for this CPU; take float32"
            )
    elif dtype != "float32":
        number = getattr(torch, dtype)
        if not torch.amp.is_autocast_available(kind) or not has_type(number, device):
            raise UserError(f"{dtype}: device '{device}' does not compute in it; take float32")
        if kind == "cpu" and not has_products_in(number, unknown=True):
            logger.warning(
                f"{dtype}: this CPU has no instructions for it, which makes it many times slower "
                "than float32; int8 is for any CPU"
            )


def _replace_linear(module, make):
    """Replace all linear maps below a module by what `make` gives; returns their number."""
    # other subclasses may use their weights in other ways
    found = [name for name, child in module.named_modules()
             if name and type(child) in (nn.Linear, PrepackedLinear)]
    for name in found:
        module.set_submodule(name, make(module.get_submodule(name)))
    return len(found)
