"""The active speech level of `papez_lobes.data.levels` for a batch, in torch, on any device.

Every step runs over all samples at once: filters as products of spectra, the hangover as running
maxima of blocks. No result goes back to the host.
"""

import numpy as np
import torch
from scipy.signal import sosfreqz
from torch.nn import functional as F

from papez_lobes.data import levels

RING_SECONDS = 0.5  # in which the filters die away: what lies beyond wraps around


def active_speech_levels(samples, lengths, sample_rate):
    """Mean power of each item's speech while it is active (ITU-T P.56, method B).

    Arguments
    ---------
    samples : torch.Tensor
        [n, T], float32, zero beyond each item's length.
    lengths : torch.Tensor
        [n], long, on the same device: samples of each item.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor
        [n], in squared units of `samples`; 0 for silence. Within 1e-3 dB of
        `papez_lobes.data.levels.active_speech_level`.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 1000 / 8000 * torch.arange(80000))
    >>> round(active_speech_levels(tone[None], torch.tensor([80000]), 8000).item(), 2)
    0.49
    """
    tail = round(levels.TAIL_SECONDS * sample_rate)
    size = samples.shape[1] + tail
    inside = torch.arange(size, device=samples.device) < (lengths + tail).unsqueeze(1)
    speech = _filter(samples, _band_response, sample_rate, size).masked_fill(~inside, 0)
    energy = speech.square().sum(dim=1)
    envelope = _filter(speech.abs(), _envelope_response, sample_rate, size)
    loudest, active = _active_samples(envelope, inside, sample_rate)
    bins = torch.arange(levels.BINS, device=samples.device)
    level = 10 * (energy.unsqueeze(1) / active).log10()  # [n, BINS]
    excess = level - levels.STEP_DB * (loudest.unsqueeze(1) - bins) - levels.MARGIN_DB
    power = 10 ** (_level_at_margin(level, excess) / 10)
    return torch.where(energy > torch.finfo(energy.dtype).tiny, power, 0.0)


def _filter(samples, response, sample_rate, size):
    """[n, size]: through the filter with that frequency response."""
    points = 2 ** int(np.ceil(np.log2(size + RING_SECONDS * sample_rate)))
    spectrum = torch.fft.rfft(samples, points)
    shape = torch.from_numpy(response(sample_rate, points)).to(spectrum)
    return torch.fft.irfft(spectrum * shape, points)[:, :size]


def _band_response(sample_rate, points):
    frequencies = np.fft.rfftfreq(points)
    return sosfreqz(levels._band_filter(sample_rate), 2 * np.pi * frequencies)[1]


def _envelope_response(sample_rate, points):
    pole = np.exp(-1 / (levels.SMOOTHING_SECONDS * sample_rate))
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(points))
    return ((1 - pole) / (1 - pole * delay)) ** 2


def _active_samples(envelope, inside, sample_rate):
    """As that of `papez_lobes.data.levels`, of a batch: [n] and [n, BINS]."""
    fraction, exponents = torch.frexp(envelope.square())
    lowest = torch.iinfo(torch.int32).min // 2
    exponents = torch.where((fraction > 0) & inside, exponents - 1, lowest)
    window = int(np.ceil(levels.HANGOVER_SECONDS * sample_rate)) + 1
    held = torch.where(inside, _running_maximum(exponents, window), lowest)
    loudest = held.amax(dim=1)
    below = (loudest.unsqueeze(1) - held).clamp(max=levels.BINS).long()
    counts = torch.zeros(len(held), levels.BINS + 1, device=held.device)
    counts.scatter_add_(1, below, inside.to(counts.dtype))
    return loudest, counts[:, : levels.BINS].cumsum(dim=1)


def _running_maximum(values, window):
    """[n, T]: the maximum of the last `window` values, by maxima to and from the ends of blocks
    (van Herk, 1992).

    Example
    -------
    >>> _running_maximum(torch.tensor([[1, 5, 2, 0, 3]]), 2).tolist()
    [[1, 5, 5, 2, 3]]
    """
    size = values.shape[1]
    lowest = torch.iinfo(values.dtype).min // 2
    blocks = -(-(size + window - 1) // window)
    padded = F.pad(values, (window - 1, blocks * window - size - window + 1), value=lowest)
    padded = padded.unflatten(1, (blocks, window))
    to_here = padded.cummax(dim=2).values.flatten(1)
    from_here = padded.flip(2).cummax(dim=2).values.flip(2).flatten(1)
    return torch.maximum(from_here[:, :size], to_here[:, window - 1 : window - 1 + size])


def _level_at_margin(level, excess):
    """As that of `papez_lobes.data.levels`, of a batch: [n]."""
    rising = (excess[:, :-1] < 0) & (excess[:, 1:] >= 0)
    first = rising.long().argmax(dim=1, keepdim=True)
    low, high = excess.gather(1, first), excess.gather(1, first + 1)
    below, above = level.gather(1, first), level.gather(1, first + 1)
    between = (below + low / (low - high) * (above - below)).squeeze(1)
    end = torch.where(excess[:, -1] <= 0, level[:, -1], level[:, 0])
    return torch.where(rising.any(dim=1), between, end)
