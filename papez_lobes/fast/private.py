"""Private operations of torch, each with a fallback where it is missing."""

import os

import torch

# oneDNN and torch's layer over it keep a product for each number of rows that they meet. That of
# running tokens differs from window to window, and by default hours of audio would fill memory.
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "64")


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
