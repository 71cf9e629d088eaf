"""Private operations of torch, each with a fallback where it is missing."""

import torch


def packs_linear_maps() -> bool:
    """True if this torch has oneDNN's linear map with a prepacked weight."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def pack_weight(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight of a linear map in oneDNN's order; None where torch cannot pack it."""
    if not packs_linear_maps() or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())


def packed_linear(x, packed, bias, activation="none"):
    """A linear map by a weight of `pack_weight`; the activation is 'none' or 'relu'."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], "")
