"""What goes in: mixtures, and the true lengths of padded items (relative, counts, masks)."""

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


def to_counts(lengths, size):
    """Relative lengths to counts of valid positions.

    Arguments
    ---------
    lengths : torch.Tensor
        [B], each in (0, 1]: the valid fraction of the padded axis (SpeechBrain's convention).
    size : int
        Length of the padded axis.

    Returns
    -------
    torch.Tensor
        [B], long, each in 1..size.

    Example
    -------
    >>> to_counts(torch.tensor([1.0, 0.5]), 8)
    tensor([8, 4])
    """
    return (lengths.double() * size).round().long().clamp(1, size)


def to_relative(counts, size):
    """The inverse of `to_counts`, exact for axes of up to 2**52 positions (float64)."""
    return counts.double() / size


def to_mask(counts, size):
    """[B, size], bool: True where a position is valid.

    Example
    -------
    >>> to_mask(torch.tensor([3, 1]), 3)
    tensor([[ True,  True,  True],
            [ True, False, False]])
    """
    return torch.arange(size, device=counts.device) < counts.unsqueeze(1)
