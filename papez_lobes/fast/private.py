"""What a torch and a CPU have, and private operations of torch, with fallbacks where they lack."""

import torch


def packs_linear_maps() -> bool:
    """Whether this torch has oneDNN's linear map with a prepacked weight."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def pack_weight(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight of a linear map as oneDNN's product reads it; None where torch cannot."""
    if not packs_linear_maps() or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())


def packed_linear(x, packed, bias, activation="none"):
    """A linear map by a weight of `pack_weight`; the activation is 'none' or 'relu'."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], "")


def has_quantised_engine() -> bool:
    """Whether this torch has an engine for 8-bit products, which it lacks on some CPUs."""
    return torch.backends.quantized.engine != "none"


def cpu_has(units: str) -> bool:
    """Whether this CPU has units, such as 'vnni', by torch's name; False where torch is silent."""
    return getattr(torch.cpu, f"_is_{units}_supported", lambda: False)()
