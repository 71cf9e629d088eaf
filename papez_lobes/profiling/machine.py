"""Description of the machine that measurements were made on."""

import platform
import re
from pathlib import Path

import torch

from papez_lobes.inference.engines import usable_processors

# Instruction sets that decide the speed of matrix products, as /proc/cpuinfo calls them.
INSTRUCTIONS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
)


def describe_machine(device: str) -> str:
    """One line: processor, its instruction sets and number of threads, or GPU; PyTorch's version.

    Example
    -------
    >>> f"torch {torch.__version__}" in describe_machine("cpu")
    True
    """
    version = f"torch {torch.__version__}"
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {version}"
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    fields = dict(re.findall(r"^(.*?)\s*: (.*)$", text, re.MULTILINE))
    name = fields.get("model name", platform.processor() or platform.machine())
    flags = fields.get("flags", "").split()
    found = " ".join(flag for flag in INSTRUCTIONS if flag in flags) or "instructions unknown"
    return f"{name} ({found}), {usable_processors()} processors; {version}"
