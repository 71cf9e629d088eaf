"""SI-SNR and its improvement, as they are reported."""

from dataclasses import dataclass

import torch

from papez_lobes.training.losses import pit_si_snr

EPS = 1e-20  # energy; in float64 even a very quiet estimate keeps its exact score


@dataclass
class SeparationScores:
    """SI-SNR per source and its improvement over the unprocessed mixture.

    Arguments
    ---------
    si_snr, si_snr_i : torch.Tensor
        [B, C], dB, float64, in the sources' order.
    permutation : torch.Tensor
        [B, C], long: the estimate that belongs to each source.
    """

    si_snr: torch.Tensor
    si_snr_i: torch.Tensor
    permutation: torch.Tensor


def score(
    estimates: torch.Tensor, sources: torch.Tensor, mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> SeparationScores:
    """Score a batch of separated mixtures, in float64.

    Arguments
    ---------
    estimates, sources : torch.Tensor
        [B, T, C].
    mixture : torch.Tensor
        [B, T].
    lengths : torch.Tensor, optional
        [B], relative.

    Returns
    -------
    SeparationScores

    Example
    -------
    >>> sources = torch.randn(1, 8000, 2)
    >>> mixture = sources.sum(-1)
    >>> nothing_done = mixture.unsqueeze(-1).expand(-1, -1, 2)
    >>> score(nothing_done, sources, mixture).si_snr_i.abs().max().item()
    0.0
    """
    estimates, sources, mixture = estimates.double(), sources.double(), mixture.double()
    if lengths is not None:
        lengths = lengths.double()
    si_snr, permutation = pit_si_snr(estimates, sources, lengths, EPS)
    unprocessed = mixture.unsqueeze(-1).expand_as(sources)
    baseline, _ = pit_si_snr(unprocessed, sources, lengths, EPS)
    return SeparationScores(si_snr, si_snr - baseline, permutation)
