"""The machine that a figure belongs to: its processor, and what a matrix product reaches on it."""

import os
import platform
import time
from functools import partial
from pathlib import Path

import torch

from papez_lobes.precision import Int8Linear

# of /proc/cpuinfo: what decides the speed of products
UNITS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
_SIDES, _RUNS = (256, 512, 1024, 2048), 7
_LONG = 0.05  # seconds


def describe(device):
    """One line: the processor or GPU, its units for products, the number of processors, torch.

    Example
    -------
    >>> f"torch {torch.__version__}" in describe("cpu")
    True
    """
    device = torch.device(device)
    version = f"torch {torch.__version__}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {version}"
    name, flags = platform.processor() or platform.machine(), ()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(
            line.split(":", 1) for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name, flags = fields.get("model name", name), fields.get("flags", "").split()
    units = " ".join(unit for unit in UNITS if unit in flags) or "units unknown"
    return f"{name} ({units}), {all_threads()} processors; {version}"


def all_threads():
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def product_rate(dtype, device):
    """Multiply-accumulates per second of square matrix products, as torch is set.

    The best of a few runs, of sides that double until a product takes long: the most that the
    arithmetic of a separation could reach.

    Arguments
    ---------
    dtype : str
        One of `papez_lobes.precision.DTYPES`.
    device : str or torch.device
        Where.

    Returns
    -------
    float
    """
    rates = []
    for side in _SIDES:
        product, best = _product(side, dtype, device), float("inf")
        for _ in range(_RUNS):
            synchronize(device)
            started = time.perf_counter()
            product()
            synchronize(device)
            best = min(best, time.perf_counter() - started)
        rates.append(side**3 / best)
        if best > _LONG:  # the next would take eight times as long; minutes, where it is emulated
            break
    return max(rates)


def _product(side, dtype, device):
    left, right = (torch.randn(side, side) for _ in range(2))
    if dtype == "int8":
        return partial(Int8Linear(torch.nn.Linear(side, side, bias=False)), left)
    kind = getattr(torch, dtype)
    return partial(torch.mm, left.to(device, kind), right.to(device, kind))


def synchronize(device):
    """Wait until a GPU is done; nothing on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
