"""Permutation-invariant SI-SNR over the true lengths, for any number of speakers."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from papez_lobes.lengths import to_counts, to_mask

EPS = 1e-8  # energy, far below any audible signal and far above underflow in float32


def pairwise_si_snr(
    estimates: torch.Tensor,
    sources: torch.Tensor,
    lengths: torch.Tensor | None = None,
    eps: float = EPS,
) -> torch.Tensor:
    """SI-SNR of every estimate against every source.

    With zero-mean signals, t = <e, s> s / |s|^2 and SI-SNR = 10 log10(|t|^2 / |e - t|^2)
    (Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, Eq. 3-5), each energy with
    `eps` added. Values and gradients are finite even if a signal is silent. A silent source gives
    0 dB for a silent estimate, and less the louder the estimate is.

    Arguments
    ---------
    estimates, sources : torch.Tensor
        [B, T, C] each.
    lengths : torch.Tensor, optional
        [B], relative. Samples beyond have no influence.
    eps : float
        Energy that is added to numerators and denominators.

    Returns
    -------
    torch.Tensor
        [B, C (estimates), C (sources)], dB.

    Example
    -------
    >>> s = torch.randn(1, 8000, 2)
    >>> pairwise_si_snr(s.flip(-1) * 3, s)[0].argmax(-1)
    tensor([1, 0])
    """
    estimates = _centre(estimates, lengths).unsqueeze(2)  # [B, C, 1, T]
    sources = _centre(sources, lengths).unsqueeze(1)  # [B, 1, C, T]
    return _si_snr(*torch.broadcast_tensors(estimates, sources), eps)


def pit_si_snr(
    estimates: torch.Tensor,
    sources: torch.Tensor,
    lengths: torch.Tensor | None = None,
    eps: float = EPS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SI-SNR under the best permutation of speakers.

    The mean over speakers is a sum over pairs, so the best of all C! permutations is found as an
    assignment problem, which is cheap for any number of speakers. The assignment is computed from
    inner products alone; SI-SNR is computed sample by sample only for the chosen pairs.

    Arguments
    ---------
    estimates, sources, lengths, eps
        As `pairwise_si_snr`.

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
    order = _best_permutation(estimates.detach(), sources, eps)
    chosen = order.argsort(dim=1).unsqueeze(-1).expand_as(sources)  # the source of each estimate
    return _si_snr(estimates, sources.gather(1, chosen), eps).gather(1, order), order


def _best_permutation(estimates, sources, eps):
    """[B, C], long: which estimate belongs to each source, by SI-SNR from inner products."""
    products = (estimates @ sources.transpose(1, 2)).cpu().double()  # [B, C (estimates), C]
    energy = torch.linalg.vector_norm(sources, dim=-1).cpu().double().square().unsqueeze(1)
    whole = torch.linalg.vector_norm(estimates, dim=-1).cpu().double().square().unsqueeze(2)
    target = products.square() * energy / (energy + eps) ** 2
    pairs = torch.log10((target + eps) / ((whole - target).clamp(min=0) + eps))
    # only the choice of a permutation ignores NaN, which still reaches the loss
    costs = np.nan_to_num(-pairs.numpy(), nan=1e9)
    order = np.stack([linear_sum_assignment(cost.T)[1] for cost in costs])
    return torch.as_tensor(order, device=estimates.device)


def _si_snr(estimates, sources, eps):
    """dB [...] of centred signals [..., T]."""
    energy = (sources.unsqueeze(-2) @ sources.unsqueeze(-1)).squeeze(-1)  # [..., 1]
    product = (estimates.unsqueeze(-2) @ sources.unsqueeze(-1)).squeeze(-1)
    scale = product / (energy + eps)  # t = scale * s
    target = (scale.square() * energy).squeeze(-1)
    residual = torch.addcmul(estimates, scale, sources, value=-1).square().sum(-1)
    return 10 * torch.log10((target + eps) / (residual + eps))


def reorder(estimates: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Put estimates [B, T, C] into the sources' order, by the permutation of `pit_si_snr`."""
    return estimates.gather(2, permutation.unsqueeze(1).expand(-1, estimates.shape[1], -1))


def pit_si_snr_loss(
    estimates: torch.Tensor, sources: torch.Tensor, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """The training loss: negative mean SI-SNR of each mixture in dB, [B]; see `pit_si_snr`."""
    return -pit_si_snr(estimates, sources, lengths)[0].mean(dim=-1)


def _centre(signals, lengths):
    """Subtract the means over the valid samples: [B, T, C] to [B, C, T], zero in the padding."""
    signals = signals.transpose(1, 2).contiguous()
    if lengths is None:
        return signals - signals.mean(dim=2, keepdim=True)
    counts = to_counts(lengths, signals.shape[2])
    beyond = ~to_mask(counts, signals.shape[2]).unsqueeze(1)
    mean = signals.masked_fill(beyond, 0).sum(dim=2, keepdim=True) / counts[:, None, None]
    return (signals - mean).masked_fill(beyond, 0)
