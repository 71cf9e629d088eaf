"""Devices on which modules run."""

import torch

from papez_lobes.errors import UserError


def checked_device(device: str | torch.device) -> str:
    """Check that a device can be used, and return its name.

    Arguments
    ---------
    device : str or torch.device
        Such as 'cpu', 'cuda' or 'cuda:1'.

    Returns
    -------
    str
        The name, with an index for CUDA, as SpeechBrain expects it.

    Raises
    ------
    UserError
        The device is unknown, is not there, or computes nothing.

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
