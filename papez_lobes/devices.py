"""Devices, and what they can compute: asked here before it is relied on."""

import torch

from papez_lobes.errors import UserError

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def checked_device(device: str | torch.device) -> str:
    """Check that a device can be used, and return its name, with an index for CUDA.

    UserError if the device is unknown, is not there, or computes nothing.

    Example
    -------
    >>> checked_device("cpu")
    'cpu'
    """
    try:
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise UserError(f"device '{device}' cannot be used here; try cpu") from error
    if device.type == "meta":
        raise UserError("device 'meta' computes nothing; try cpu")
    return str(device)


def synchronize(device: str | torch.device) -> None:
    """Wait until a GPU has done its work; on a CPU, do nothing."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def has_type(dtype: torch.dtype, device: str | torch.device) -> bool:
    """True if a device has tensors of a type. Apple's GPUs have no float64, old ones no bfloat16.

    Example
    -------
    >>> has_type(torch.float64, "cpu")
    True
    """
    try:
        torch.zeros(1, dtype=dtype, device=device)
    except (RuntimeError, TypeError):
        return False
    return True


def has_products_in(
    dtype: torch.dtype, device: torch.device | str = "cpu", unknown: bool = False
) -> bool:
    """True if a device has instructions for matrix products in a precision; GPUs are taken to.

    torch computes such products everywhere. Without instructions it emulates them, many times more
    slowly than in float32. `unknown` is the answer where torch does not tell.

    Example
    -------
    >>> has_products_in(torch.float32)
    True
    """
    if dtype not in _NAMES or torch.device(device).type != "cpu":
        return True
    check = getattr(torch.ops.mkldnn, f"_is_mkldnn_{_NAMES[dtype]}_supported", None)
    return unknown if check is None else check()


def cpu_has(units: str) -> bool:
    """True if this CPU has units, such as 'vnni', by torch's name; False where torch is silent."""
    return getattr(torch.cpu, f"_is_{units}_supported", lambda: False)()


def choose_quantised_engine() -> bool:
    """Make sure that torch has an engine for 8-bit products; False if it has none for this CPU.

    Some builds, such as those for Apple silicon, have an engine but do not choose it.
    """
    quantized = torch.backends.quantized
    before = quantized.engine
    for engine in (before, *quantized.supported_engines):
        try:
            quantized.engine = engine
            weight = torch.quantize_per_tensor(torch.ones(8, 8), 1.0, 0, torch.qint8)
            torch.ops.quantized.linear_prepack(weight, None)
            return True
        except (RuntimeError, NotImplementedError):  # torch has the name, but not the engine
            quantized.engine = before
    return False
