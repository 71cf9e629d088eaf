"""Resampling by the filter of MATLAB's `resample`, as WSJ0-mix was made.

Recordings thus reach a separator with the band edge of the corpora that it was trained on.
"""

from functools import lru_cache
from math import gcd

import numpy as np

ZERO_CROSSINGS = 10  # of the ideal low-pass, on each side, at the lower of the two rates
KAISER_BETA = 5.0
COLUMNS = 32  # results that one matrix gives; with fewer, or more, gathering or products are slow
PRODUCT = 2**18  # multiplications at a time: BLAS spreads more over threads, which wait longer


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sampling rate of samples [..., T], with linear phase and no delay.

    The filter is an ideal low-pass at half the lower rate, cut to 10 zero crossings a side by a
    Kaiser window with beta 5. It is 6 dB down at the band edge and about 50 dB down above. Signals
    are taken as 0 outside. float32 is computed in float32, anything else in float64.

    Returns
    -------
    numpy.ndarray
        [..., ceil(T * to_rate / from_rate)], float32 or float64.

    Example
    -------
    >>> [len(resample(np.ones(count), 48000, 8000)) for count in (1, 6, 7, 48000)]
    [1, 1, 2, 8000]
    """
    samples = _as_float(samples)
    if from_rate == to_rate:
        return samples
    resampler = Resampler(from_rate, to_rate)
    before, *_ = _block(resampler.up, resampler.down)
    resampler.pending = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(before, 0)])
    resampler.fed = samples.shape[-1]
    return resampler.flush()  # all at once


class Resampler:
    """Resampling of a signal that comes in pieces, from one rate in Hz to another.

    The results in a row equal `resample` of the whole signal to 1e-6 of its peak. The state has a
    constant size, and can be copied and pickled.

    Example
    -------
    >>> signal = np.sin(np.arange(1000)).astype(np.float32)
    >>> resampler = Resampler(16000, 8000)
    >>> pieces = [resampler.feed(signal[:700]), resampler.feed(signal[700:]), resampler.flush()]
    >>> bool(np.allclose(np.concatenate(pieces), resample(signal, 16000, 8000), atol=1e-6))
    True
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        common = gcd(from_rate, to_rate)
        self.up, self.down = to_rate // common, from_rate // common
        self.fed = self.given = 0  # samples
        self.pending = None  # [..., n]: inputs that results to come depend on

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Take a piece [..., n], n >= 0, and return the results [..., m] that are complete with it.

        All pieces have the same type and leading axes, as for `resample`.
        """
        samples = _as_float(samples)
        before, inputs, step, _ = _block(self.up, self.down)
        if self.pending is None:
            self.pending = np.zeros((*samples.shape[:-1], before), samples.dtype)
        self.fed += samples.shape[-1]
        if self.up == self.down:
            self.given = self.fed
            return samples
        self.pending = np.concatenate([self.pending, samples], axis=-1)
        blocks = max(0, (self.pending.shape[-1] - inputs) // step + 1)
        complete = _filter(self.pending, self.up, self.down, blocks)
        self.pending = self.pending[..., blocks * step :].copy()
        self.given += complete.shape[-1]
        return complete

    def flush(self, total: int | None = None) -> np.ndarray:
        """Return the rest of the results, [..., m], after which nothing can be fed.

        All the results together have `total` samples, by default ceil(T * to_rate / from_rate) as
        of `resample`. A recording that was brought to another rate and back thus gets the number of
        samples that it had.
        """
        if self.pending is None:
            return np.zeros(0, np.float32)
        if total is None:
            total = -(-self.fed * self.up // self.down)
        _, inputs, step, results = _block(self.up, self.down)
        missing = max(0, total - self.given)
        blocks = -(-missing // results)
        silence = max(0, (blocks - 1) * step + inputs - self.pending.shape[-1])
        axes = [(0, 0)] * (self.pending.ndim - 1)
        padded = np.pad(self.pending, [*axes, (0, silence)])
        self.given += missing
        return _filter(padded, self.up, self.down, blocks)[..., :missing]


def _as_float(samples):
    samples = np.asarray(samples)
    return samples if samples.dtype == np.float32 else samples.astype(np.float64)


def _block(up, down):
    """The numbers of a block: inputs before it, inputs on which it depends, inputs, results."""
    group = -(-COLUMNS // up)
    reach = ZERO_CROSSINGS * max(up, down) // up + 1
    return reach, reach + group * down + reach, group * down, group * up


def _filter(padded, up, down, blocks):
    """Compute the results [..., n] of blocks; `padded` begins with the inputs before the first one.

    The results of a block are a linear function of the inputs near it, the same one everywhere, and
    are computed by products with small matrices. This is several times faster than a bank of
    filters. Mixing while training depends on that.
    """
    _, _, step, results = _block(up, down)
    if blocks == 0:
        return padded[..., :0]
    filtered = np.empty((*padded.shape[:-1], blocks, results), padded.dtype)
    for number, (first, matrix) in enumerate(_matrices(up, down, padded.dtype)):
        inputs, columns = matrix.shape
        windows = np.lib.stride_tricks.sliding_window_view(padded[..., first:], inputs, axis=-1)
        target = filtered[..., number * COLUMNS : number * COLUMNS + columns]
        size = max(1, PRODUCT // matrix.size)
        for begin in range(0, blocks, size):
            end = min(begin + size, blocks)
            gathered = np.ascontiguousarray(windows[..., begin * step : end * step : step, :])
            target[..., begin:end, :] = gathered @ matrix
    return filtered.reshape(*padded.shape[:-1], blocks * results)


@lru_cache
def _matrices(up, down, dtype):
    """For each `COLUMNS` results of a block: the first input, and the matrix [inputs, results]."""
    before, _, _, results = _block(up, down)
    # of a low-pass at the lower rate's band edge, with unit gain at 0 Hz
    factor = max(up, down)
    half = ZERO_CROSSINGS * factor
    taps = np.sinc(np.arange(-half, half + 1) / factor) * np.kaiser(2 * half + 1, KAISER_BETA)
    taps = up * (taps / taps.sum())
    matrices = []
    for begin in range(0, results, COLUMNS):
        chosen = np.arange(begin, min(begin + COLUMNS, results))
        first, last = chosen[[0, -1]] * down // up
        inputs = np.arange(first, last + 2 * before + 1) - before  # relative to the block's first
        places = chosen * down + half - inputs[:, None] * up  # of the taps
        inside = (places >= 0) & (places < len(taps))
        matrix = np.where(inside, taps[places.clip(0, len(taps) - 1)], 0)
        matrices.append((int(first), matrix.astype(dtype)))
    return matrices
