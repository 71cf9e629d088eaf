"""What the processor can do: which arithmetic it has instructions for."""

import torch

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def has_products_in(
    dtype: torch.dtype, device: torch.device | str = "cpu", unknown: bool = False
) -> bool:
    """Check whether matrix products in a precision are computed by instructions of their own.

    torch computes them everywhere, but where the processor has none for it they are emulated, many
    times more slowly than in float32.

    Arguments
    ---------
    dtype : torch.dtype
        A floating point type.
    device : torch.device or str
        GPUs are taken to have them.
    unknown : bool
        The answer where torch does not tell.

    Returns
    -------
    bool

    Example
    -------
    >>> has_products_in(torch.float32)
    True
    """
    if dtype not in _NAMES or torch.device(device).type != "cpu":
        return True
    check = getattr(torch.ops.mkldnn, f"_is_mkldnn_{_NAMES[dtype]}_supported", None)
    return unknown if check is None else check()
