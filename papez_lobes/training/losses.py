"""Permutation-invariant SI-SNR over the true lengths: the training loss, and scores to report."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from papez_lobes.lengths import to_counts, to_mask

EPS = 1e-8  # energy, far below any audible signal and far above underflow in float32
SCORE_EPS = 1e-20  # of scores: in float64 even a very quiet estimate keeps its exact score
SILENCE = 1e-3  # a silent source's estimate is quiet enough 30 dB below the sources' energy
LOUDEST = 2.0**20  # peak to which louder signals are scaled, so that no energy overflows


@dataclass
class SeparationScores:
    """SI-SNR per source and its improvement over the unprocessed mixture.

    Both are [B, C], dB, float64, in the sources' order. `permutation` [B, C], long, is the estimate
    that belongs to each source.
    """

    si_snr: torch.Tensor
    si_snr_i: torch.Tensor
    permutation: torch.Tensor


def score(
    estimates: torch.Tensor, sources: torch.Tensor, mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> SeparationScores:
    """Score a batch of separated mixtures, in float64 on the CPU.

    `estimates` and `sources` are [B, T, C], `mixture` is [B, T], and `lengths` are relative, [B].

    Example
    -------
    >>> sources = torch.randn(1, 8000, 2)
    >>> mixture = sources.sum(-1)
    >>> nothing_done = mixture.unsqueeze(-1).expand(-1, -1, 2)
    >>> score(nothing_done, sources, mixture).si_snr_i.abs().max().item()
    0.0
    """
    # not every device has float64
    estimates, sources, mixture = (
        signals.detach().cpu().double() for signals in (estimates, sources, mixture)
    )
    if lengths is not None:
        lengths = lengths.cpu().double()
    si_snr, permutation = pit_si_snr(estimates, sources, lengths, SCORE_EPS)
    unprocessed = mixture.unsqueeze(-1).expand_as(sources)
    baseline, _ = pit_si_snr(unprocessed, sources, lengths, SCORE_EPS)
    return SeparationScores(si_snr, si_snr - baseline, permutation)


def pit_si_snr_loss(
    estimates: torch.Tensor, sources: torch.Tensor, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """The training loss: negative mean SI-SNR of each mixture in dB, [B]; see `pit_si_snr`.

    Where a source is silent, the mixture is nearly the answer, and the gradient of SI-SNR, which
    grows as the error falls, would outweigh all other mixtures of a batch. There the SI-SNR of the
    others is limited softly to 30 dB too.
    """
    values, _ = pit_si_snr(estimates, sources, lengths)
    silent = sources.detach().abs().amax(dim=1) == 0  # [B, C]
    if silent.any():
        limited = -10 * torch.log10(10 ** (-values.clamp(min=-100) / 10) + SILENCE)
        values = torch.where(silent.any(dim=1, keepdim=True) & ~silent, limited, values)
    return -values.mean(dim=-1)


def pit_si_snr(
    estimates: torch.Tensor, sources: torch.Tensor, lengths: torch.Tensor | None = None,
    eps: float = EPS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SI-SNR under the best permutation of speakers.

    With zero-mean signals, t = <e, s> s / |s|^2 and SI-SNR = 10 log10(|t|^2 / |e - t|^2)
    (Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, Eq. 3-5), each energy with
    `eps` added.

    A silent source has no SI-SNR. Its value is the level of all sources over that of its estimate,
    10 log10(E / (|e|^2 + 0.001 E)) with their energy E: 0 dB for an estimate as loud as the
    mixture, 30 dB at most (the loss of silent sources of Wisdom et al., "What's all the FUSS about
    free universal sound separation data?", ICASSP 2021). Values and gradients are finite for all
    finite signals up to 1e25.

    The mean over speakers is a sum over pairs, so the best of all C! permutations is found as an
    assignment problem, which is cheap for any number of speakers. The assignment is computed from
    inner products alone; SI-SNR is computed sample by sample only for the chosen pairs.

    Arguments
    ---------
    estimates, sources : torch.Tensor
        [B, T, C] each.
    lengths : torch.Tensor, optional
        [B], relative. Samples beyond have no influence.
    eps : float
        Energy that is added to numerators and denominators. A source of no more energy is silent.

    Returns
    -------
    torch.Tensor
        [B, C]: dB of each source, in the sources' order.
    torch.Tensor
        [B, C], long: which estimate belongs to each source.

    Example
    -------
    >>> s = torch.randn(2, 8000, 3)
    >>> pit_si_snr(s[..., [2, 0, 1]], s)[1].tolist()
    [[1, 2, 0], [1, 2, 0]]
    """
    estimates, sources = _centre(estimates, lengths), _centre(sources, lengths)  # [B, C, T]
    order, silent = _best_permutation(estimates.detach(), sources, eps)
    source_of = order.argsort(dim=1)  # of each estimate
    sources = sources.gather(1, source_of.unsqueeze(-1).expand_as(sources))
    values = _si_snr(estimates, sources, silent.gather(1, source_of), eps)
    return values.gather(1, order), order


def reorder(estimates: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Put estimates [B, T, C] into the sources' order, by the permutation of `pit_si_snr`."""
    return estimates.gather(2, permutation.unsqueeze(1).expand(-1, estimates.shape[1], -1))


def _best_permutation(estimates, sources, eps):
    """The estimate that belongs to each source, and all sources' energy where it is silent or 0.

    Both are [B, C]. SI-SNR is computed from inner products, in float64 on the CPU.
    """
    products = (estimates @ sources.transpose(1, 2)).cpu().double()  # [B, C (estimates), C]
    energy = torch.linalg.vector_norm(sources, dim=-1).cpu().double().square().unsqueeze(1)
    whole = torch.linalg.vector_norm(estimates, dim=-1).cpu().double().square().unsqueeze(2)
    silent = energy.sum(dim=2, keepdim=True) * (energy <= eps)
    target = products.square() * energy / (energy + eps) ** 2
    residual = (whole - target).clamp(min=0) + SILENCE * silent
    pairs = torch.log10((target + silent + eps) / (residual + eps))
    # only the choice of a permutation ignores NaN, which still reaches the loss
    costs = np.nan_to_num(-pairs.numpy(), nan=1e9)
    order = np.stack([linear_sum_assignment(cost.T)[1] for cost in costs])
    return torch.as_tensor(order, device=estimates.device), silent.squeeze(1).to(
        estimates.device, estimates.dtype)


def _si_snr(estimates, sources, silent, eps):
    """dB [B, C] of centred signals [B, C, T], with `silent` of `_best_permutation`."""
    energy = (sources.unsqueeze(-2) @ sources.unsqueeze(-1)).squeeze(-1)  # [B, C, 1]
    product = (estimates.unsqueeze(-2) @ sources.unsqueeze(-1)).squeeze(-1)
    scale = product / (energy + eps)  # t = scale * s
    target = (scale.square() * energy).squeeze(-1) + silent
    residual = torch.addcmul(estimates, scale, sources, value=-1).square().sum(-1)
    return 10 * torch.log10((target + eps) / (residual + SILENCE * silent + eps))


def _centre(signals, lengths):
    """Centred signals over the valid samples, at most `LOUDEST`: [B, T, C] to [B, C, T].

    The padding is zero.
    """
    signals = signals.transpose(1, 2).contiguous()
    if lengths is None:
        signals = signals - signals.mean(dim=2, keepdim=True)
    else:
        counts = to_counts(lengths, signals.shape[2])
        beyond = ~to_mask(counts, signals.shape[2]).unsqueeze(1)
        mean = signals.masked_fill(beyond, 0).sum(dim=2, keepdim=True) / counts[:, None, None]
        signals = (signals - mean).masked_fill(beyond, 0)
    peak = signals.detach().abs().amax(dim=2, keepdim=True)
    if (peak > LOUDEST).any():  # SI-SNR does not depend on the scale
        signals = signals * (LOUDEST / peak.clamp(min=LOUDEST))
    return signals
