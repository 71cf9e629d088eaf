"""Active speech level (ITU-T Recommendation P.56, method B): the level of speech without pauses.

WSJ0-mix sets its gains over this level, measured at 8 kHz.
"""

from functools import lru_cache

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import cheby2, sosfilt

from papez_lobes.data.resampling import resample

LEVEL_RATE = 8000  # Hz, at which WSJ0-mix measures levels whatever the rate of the mixture
BAND_HZ = (200.0, 5500.0)  # where the measuring filter is EDGE_DB down
EDGE_DB, STOP_DB, ORDER = 0.25, 50.0, 5
NARROW = 2.2  # below this many times the band's upper edge, sampling alone limits the band
SMOOTHING_SECONDS = 0.03  # time constant of each of the envelope's two smoothers
HANGOVER_SECONDS = 0.2  # pauses up to this count as speech
TAIL_SECONDS = 0.35  # of silence after the signal, in which envelope and hangover die away
MARGIN_DB = 15.9  # speech is active down to this far below its own level
BINS = 20  # thresholds, a factor of 2 in power (3 dB) apart, below the loudest
STEP_DB = 10 * np.log10(2)


def active_speech_level(samples: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Measure the mean power of speech [T] while it is active (ITU-T P.56, method B).

    The signal is limited to 200-5500 Hz (only high-passed at rates below 12.1 kHz). Its energy is
    divided by the time in which the envelope exceeded a threshold within the last 0.2 s. The level
    is the result for the threshold that lies 15.9 dB below the result itself. Thresholds are powers
    of 2, and the level is interpolated between them. So a gain that is a power of 2 (in power)
    changes the level by exactly this gain; others do within 0.1 dB for speech.

    Returns the power, in squared units of `samples`, and the activity, the share of the time in
    which there is speech, of T samples and the 0.35 s of silence that the measurement appends. Both
    are 0 for silence.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(80000))
    >>> round(active_speech_level(tone, 8000)[0], 2)  # 10 s of power 0.5, and 0.3 s of hangover
    0.49
    >>> power, activity = active_speech_level(np.pad(tone, (0, 240000)), 8000)  # a pause of 30 s
    >>> round(power, 2), round(activity, 2)
    (0.49, 0.25)
    """
    samples = np.pad(np.asarray(samples, float), (0, round(TAIL_SECONDS * sample_rate)))
    speech = sosfilt(_band_filter(sample_rate), samples)
    energy = float(speech @ speech)
    if energy < np.finfo(float).tiny:
        return 0.0, 0.0
    loudest, active = _active_samples(_envelope(speech, sample_rate), sample_rate)
    levels = 10 * np.log10(energy / active)
    edges = STEP_DB * (loudest - np.arange(BINS))
    level = _level_at_margin(levels, levels - edges - MARGIN_DB)
    power = 10 ** (level / 10)
    return power, energy / len(samples) / power


def speech_level(samples: np.ndarray, sample_rate: int) -> float:
    """Measure the active level of samples [T] at 8 kHz, as WSJ0-mix does at every rate: a power.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(160000))
    >>> round(speech_level(tone, 16000), 2)
    0.49
    """
    narrow = resample(np.asarray(samples, np.float64), sample_rate, LEVEL_RATE)
    return active_speech_level(narrow, LEVEL_RATE)[0]


@lru_cache
def _band_filter(sample_rate):
    """Second-order sections of the measuring filter, with unit gain in the band."""
    low, high = (np.tan(np.pi * edge / sample_rate) for edge in BAND_HZ)  # bilinear transform
    # |H|^2 = 1 / (1 + (10^(stop/10) - 1) / T^2(ratio)) is EDGE_DB down at the band's edge for
    # this ratio of edge to stop band, T being Chebyshev's polynomial of that order.
    chebyshev = np.sqrt((10 ** (STOP_DB / 10) - 1) / (10 ** (EDGE_DB / 10) - 1))
    ratio = np.cosh(np.arccosh(chebyshev) / ORDER)
    sections = [cheby2(ORDER, STOP_DB, _hertz(low / ratio, sample_rate), "highpass",
                       output="sos", fs=sample_rate)]
    if sample_rate >= NARROW * BAND_HZ[1]:
        sections.append(cheby2(ORDER, STOP_DB, _hertz(high * ratio, sample_rate), "lowpass",
                               output="sos", fs=sample_rate))
    return np.concatenate(sections)


def _hertz(warped, sample_rate):
    """A frequency in Hz from that of the bilinear transform."""
    return sample_rate / np.pi * np.arctan(warped)


def _envelope(speech, sample_rate):
    """The magnitude through two equal one-pole smoothers with unit gain for a constant."""
    pole = np.exp(-1 / (SMOOTHING_SECONDS * sample_rate))
    smoothers = [[(1 - pole) ** 2, 0, 0, 1, -2 * pole, pole**2]]
    return sosfilt(smoothers, np.abs(speech))


def _active_samples(envelope, sample_rate):
    """Exponent of the highest threshold, and [BINS] counts of samples active at each, downwards."""
    fraction, exponents = np.frexp(envelope**2)  # squared = fraction * 2**exponent, 0.5 <= f < 1
    exponents = np.where(fraction > 0, exponents - 1, np.iinfo(np.int32).min // 2)
    window = int(np.ceil(HANGOVER_SECONDS * sample_rate)) + 1
    # The window ends at each sample; scipy's is centred, and `origin` moves it.
    held = maximum_filter1d(exponents, window, mode="nearest", origin=(window - 1) // 2)
    loudest = int(held.max())
    counts = np.bincount(np.minimum(loudest - held, BINS), minlength=BINS + 1)
    return loudest, np.cumsum(counts[:BINS])


def _level_at_margin(levels, excess):
    """The level, linear between thresholds, where its excess over the margin rises through 0."""
    rising = np.flatnonzero((excess[:-1] < 0) & (excess[1:] >= 0))
    if len(rising) == 0:  # nowhere: the end that is nearer to it
        return float(levels[-1] if excess[-1] <= 0 else levels[0])
    below = rising[0]
    part = excess[below] / (excess[below] - excess[below + 1])
    return float(levels[below] + part * (levels[below + 1] - levels[below]))
