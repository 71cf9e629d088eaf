"""Where modules run."""

import torch

from papez_lobes.errors import UserError


def checked_device(device):
    """The name of a device that works here, with an index for CUDA, as SpeechBrain wants it.

    Raises
    ------
    UserError
        If it cannot be used.

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
