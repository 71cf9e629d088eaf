"""Mixtures that modules take, and the true lengths of padded items: relative, counts, masks."""

import torch


def check_mixture(mixture):
    """Raise ValueError unless a mixture is a non-empty floating point tensor [B, T]."""
    if (
        not torch.is_tensor(mixture) or mixture.dim() != 2 or mixture.numel() == 0
        or not mixture.is_floating_point()
    ):
        kind = getattr(mixture, "dtype", type(mixture).__name__)
        raise ValueError(
            "expected a floating point mixture [batch, samples], a tensor [B, T] with at least one "
            f"sample, got {kind} {list(getattr(mixture, 'shape', ()))}"
        )


def to_counts(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Relative lengths [B] to counts [B] of valid positions, long and each in 1..size.

    A relative length is the valid fraction, in (0, 1], of a padded axis of `size` positions
    (SpeechBrain's convention).

    Example
    -------
    >>> to_counts(torch.tensor([1.0, 0.5]), 8)
    tensor([8, 4])
    """
    return (_widest(lengths) * size).round().long().clamp(1, size)


def to_relative(counts: torch.Tensor, size: int) -> torch.Tensor:
    """The inverse of `to_counts`, exact for 2**52 positions; without float64 for 2**22."""
    return _widest(counts) / size


def to_mask(counts: torch.Tensor, size: int) -> torch.Tensor:
    """[B, size], bool: True where a position is valid.

    Example
    -------
    >>> to_mask(torch.tensor([3, 1]), 3)
    tensor([[ True,  True,  True],
            [ True, False, False]])
    """
    return torch.arange(size, device=counts.device) < counts.unsqueeze(1)


def length_mask(lengths: torch.Tensor | None, size: int) -> torch.Tensor | None:
    """`to_mask` of relative lengths [B]; None if there are none."""
    return None if lengths is None else to_mask(to_counts(lengths, size), size)


def _widest(x):
    """In float64, or in float32 on devices that have no float64."""
    try:
        return x.double()
    except (TypeError, RuntimeError):
        return x.float()
