"""Resampling as MATLAB's `resample` does by default, and with it WSJ0-mix: the one resampler here.

It is the filter behind the corpora that separators are trained on, so that a recording reaches a
separator with the band edge that it learned from.
"""

from functools import lru_cache
from math import gcd

import numpy as np
from scipy.signal import firwin, resample_poly

ZERO_CROSSINGS = 10  # of the ideal low-pass, on each side, at the lower of the two rates
KAISER_BETA = 5.0


def resample(samples, from_rate, to_rate):
    """Change the sampling rate; linear phase, no delay.

    An ideal low-pass at half the lower rate, 10 zero crossings a side under a Kaiser window with
    beta 5: 6 dB down there, stop band of about 50 dB. Signals are taken as 0 outside.

    Arguments
    ---------
    samples : numpy.ndarray
        [T], float32 (computed in it) or anything else (computed in float64).
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
    if from_rate == to_rate:
        return samples
    common = gcd(from_rate, to_rate)
    up, down = to_rate // common, from_rate // common
    return resample_poly(samples, up, down, window=_low_pass(max(up, down)).astype(samples.dtype))


@lru_cache
def _low_pass(factor):
    """[20 factor + 1] taps of a low-pass at 1 / `factor` of the band, with unit gain at 0 Hz."""
    return firwin(2 * ZERO_CROSSINGS * factor + 1, 1 / factor, window=("kaiser", KAISER_BETA))
