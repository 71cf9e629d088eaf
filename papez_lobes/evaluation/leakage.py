"""Leakage: the level of the wrong outputs where one speaker speaks alone."""

import numpy as np

FRAME_SECONDS = 0.02
ACTIVE_DB = -40.0  # power of a frame, relative to the source's loudest frame
LOWEST_DB = -100.0  # reported where the wrong outputs are silent


def frame_power(signals: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean power in frames of 20 ms, which do not overlap: [T, C] to [F, C]."""
    starts = np.arange(0, len(signals), _frame_size(sample_rate))
    sizes = np.diff(starts, append=len(signals))
    return np.add.reduceat(np.square(signals, dtype=float), starts) / sizes[:, None]


def active_frames(sources: np.ndarray, sample_rate: int) -> np.ndarray:
    """Find the frames of 20 ms in which each source is active: [T, C] to [F, C], bool.

    A source is active where its power is above -40 dB relative to its loudest frame. A source of
    zeros is never active.
    """
    power = frame_power(sources, sample_rate)
    return power > power.max(axis=0) * 10 ** (ACTIVE_DB / 10)


def frame_of(sample: np.ndarray, sample_rate: int) -> np.ndarray:
    """The index of the frame that holds a sample."""
    return sample // _frame_size(sample_rate)


def leakage(
    estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray, sample_rate: int
) -> float:
    """Measure the level of the wrong outputs where one speaker speaks alone.

    Only the frames in which exactly one source is active count, see `active_frames`. The energy of
    all outputs but that speaker's, summed over these frames, is divided by the energy of the
    mixture in them. Estimates and sources are [T, C], in the same order, and on the scale of the
    mixture [T], of a rate in Hz.

    Returns
    -------
    float
        dB relative to the mixture, at least -100; lower is better. NaN if nobody speaks alone, or
        if there is one output only.

    Example
    -------
    >>> speech = np.random.default_rng(0).normal(size=8000)
    >>> sources = np.stack([speech, np.repeat([0.0, 1.0], 4000) * speech[::-1]], axis=1)
    >>> estimates = sources + 0.1 * sources[:, ::-1]
    >>> round(leakage(estimates, sources, sources.sum(axis=1), 8000), 1)
    -20.0
    """
    active = active_frames(sources, sample_rate)
    alone = active.sum(axis=1) == 1
    if not alone.any() or sources.shape[1] == 1:
        return float("nan")
    wrong = np.where(active, 0, frame_power(estimates, sample_rate))[alone].sum()
    whole = frame_power(mixture[:, None], sample_rate)[alone].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.fmax(10 * np.log10(wrong / whole), LOWEST_DB))


def _frame_size(sample_rate):
    return max(1, round(FRAME_SECONDS * sample_rate))
