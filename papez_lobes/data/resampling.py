"""Resampling by the filter of MATLAB's `resample`, as WSJ0-mix was made.

Recordings thus reach a separator with the band edge of the corpora that it was trained on.
"""

from functools import lru_cache
from math import gcd

import numpy as np
from scipy.signal import firwin, resample_poly

ZERO_CROSSINGS = 10  # of the ideal low-pass, on each side, at the lower of the two rates
KAISER_BETA = 5.0
LARGEST_PHASES = 160  # of a rate's ratio, up to which a matrix of all phases is small


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sampling rate, with linear phase and no delay.

    The filter is an ideal low-pass at half the lower rate, cut to 10 zero crossings a side by a
    Kaiser window with beta 5. It is 6 dB down at the band edge and about 50 dB down above. Signals
    are taken as 0 outside.

    Arguments
    ---------
    samples : numpy.ndarray
        [T]; float32 is computed in float32, anything else in float64.
    from_rate, to_rate : int
        Rates in Hz.

    Returns
    -------
    numpy.ndarray
        [ceil(T * to_rate / from_rate)], float32 or float64.

    Example
    -------
    >>> [len(resample(np.ones(count), 48000, 8000)) for count in (1, 6, 7, 48000)]
    [1, 1, 2, 8000]
    """
    samples = np.asarray(samples)
    if samples.dtype != np.float32:
        samples = samples.astype(np.float64)
    if from_rate == to_rate or samples.size == 0:
        return samples
    common = gcd(from_rate, to_rate)
    up, down = to_rate // common, from_rate // common
    if samples.dtype == np.float32 and max(up, down) <= LARGEST_PHASES:
        return _resample_by_products(samples, up, down)
    return resample_poly(samples, up, down, window=_low_pass(max(up, down)).astype(samples.dtype))


def _resample_by_products(samples, up, down):
    """The same as one matrix product: `up` samples of the result are a linear function of some
    20 more than `down` samples of the input, the same one everywhere. It is several times faster
    than a filter bank, and used where mixtures are made while training."""
    matrix, before = _block_matrix(up, down)
    count = -(-len(samples) * up // down)
    blocks = -(-count // up)
    behind = max(0, (blocks - 1) * down + matrix.shape[0] - before - len(samples))
    padded = np.pad(samples, (before, behind))
    windows = np.lib.stride_tricks.sliding_window_view(padded, matrix.shape[0])[::down][:blocks]
    return (windows @ matrix).reshape(-1)[:count]


@lru_cache
def _block_matrix(up, down):
    """The matrix [inputs, up] of a block, and how many inputs lie before the block's first."""
    factor = max(up, down)
    taps, half = up * _low_pass(factor), ZERO_CROSSINGS * factor
    before = half // up + 1
    inputs = np.arange(before + down + half // up + 1) - before  # places relative to the block
    places = np.arange(up) * down + half - inputs[:, None] * up  # of the taps
    inside = (places >= 0) & (places < len(taps))
    return np.where(inside, taps[places.clip(0, len(taps) - 1)], 0).astype(np.float32), before


@lru_cache
def _low_pass(factor: int) -> np.ndarray:
    """Taps [20 factor + 1] of a low-pass at 1 / `factor` of the band, with unit gain at 0 Hz."""
    return firwin(2 * ZERO_CROSSINGS * factor + 1, 1 / factor, window=("kaiser", KAISER_BETA))
