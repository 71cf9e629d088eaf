"""A random equaliser, which varies the microphones and rooms of recordings that are mixed."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import sosfilt

TILT_HZ = 1000.0  # where the tilt turns around
PEAK_HZ = (150.0, 3500.0)  # range of the peaks' centres, which are uniform in octaves
PEAK_Q = (0.5, 2.0)  # range of the peaks' quality: centre by bandwidth


@dataclass(frozen=True)
class Equaliser:
    """Settings of the filters that a source passes.

    High frequencies are raised by half of `tilt_db`, low ones lowered by half; the turning point is
    1 kHz. `peaks` holds the centre in Hz, gain in dB and quality of each peak (or dip).
    """

    tilt_db: float = 0.0
    peaks: tuple[tuple[float, float, float], ...] = ()


def draw_equaliser(tilt_db: float, peak_db: float, rng: np.random.Generator) -> Equaliser | None:
    """Draw an equaliser: a tilt, and two peaks or dips; or None if both ranges are 0.

    `tilt_db` and `peak_db` are the largest absolute tilt and gain of a peak.

    Example
    -------
    >>> draw_equaliser(6.0, 0.0, np.random.default_rng(0))
    Equaliser(tilt_db=1.64, peaks=())
    >>> draw_equaliser(0.0, 0.0, np.random.default_rng(0)) is None
    True
    """
    if not tilt_db and not peak_db:
        return None
    tilt, peaks = 0.0, []
    if tilt_db:
        tilt = round(float(rng.uniform(-tilt_db, tilt_db)), 2)
    if peak_db:
        for _ in range(2):
            centre = float(np.exp(rng.uniform(*np.log(PEAK_HZ))))
            gain, quality = rng.uniform(-peak_db, peak_db), rng.uniform(*PEAK_Q)
            peaks.append((round(centre, 1), round(float(gain), 2), round(float(quality), 2)))
    return Equaliser(tilt, tuple(peaks))


def equalise(samples: np.ndarray, equaliser: Equaliser, sample_rate: int) -> np.ndarray:
    """Filter samples [T] of a rate in Hz, in their own precision.

    Peaks at or above 0.45 of the rate are left out.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 500 / 8000 * np.arange(8000))
    >>> louder = equalise(tone, Equaliser(peaks=((500.0, 6.0, 1.0),)), 8000)
    >>> round(float(20 * np.log10(np.std(louder[4000:]) / np.std(tone[4000:]))), 1)
    6.0
    """
    sections = [_shelf(equaliser.tilt_db, sample_rate)] if equaliser.tilt_db else []
    sections += [_peak(*peak, sample_rate) for peak in equaliser.peaks
                 if peak[0] < 0.45 * sample_rate]
    if not sections:
        return samples
    return sosfilt(np.array(sections, samples.dtype), samples)


def _peak(centre: float, gain_db: float, quality: float, sample_rate: int) -> np.ndarray:
    """A second-order section [6] of a peaking filter (R. Bristow-Johnson's audio EQ cookbook)."""
    amplitude = 10 ** (gain_db / 40)
    omega = 2 * np.pi * centre / sample_rate
    alpha = np.sin(omega) / (2 * quality)
    section = np.array([
        1 + alpha * amplitude, -2 * np.cos(omega), 1 - alpha * amplitude,
        1 + alpha / amplitude, -2 * np.cos(omega), 1 - alpha / amplitude,
    ])
    return section / section[3]


def _shelf(tilt_db: float, sample_rate: int) -> np.ndarray:
    """A section of a first-order tilt: -tilt/2 dB at 0 Hz, 0 dB at 1 kHz, +tilt/2 dB at the top.

    It is the bilinear transform of (g s + w) / (s + g w), with g the gain at high frequencies.
    """
    gain = 10 ** (tilt_db / 40)
    warped = np.tan(np.pi * TILT_HZ / sample_rate)
    section = np.array([gain + warped, warped - gain, 0, 1 + gain * warped, gain * warped - 1, 0])
    return section / section[3]
