"""Synthetic speech to measure on, generated from a seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from papez_lobes.data.audio import read_audio

_VOWELS = np.array([  # Hz: the first three formants of some vowels
    (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410),
])
_LEVEL = 0.1  # root mean square


def speech_like(seconds: float, sample_rate: int, seed: int) -> np.ndarray:
    """Generate voiced and unvoiced syllables and pauses, four to five syllables a second.

    Voiced syllables are harmonics of a gliding pitch under three formants, unvoiced ones are
    high-pass noise. The signal has levels, onsets and silences like speech, which decide how many
    steps a token runs, but no meaning.

    Arguments
    ---------
    seconds : float
        Duration.
    sample_rate : int
        Hz.
    seed : int
        Selects voice and syllables.

    Returns
    -------
    numpy.ndarray
        [T], float32, root mean square 0.1.

    Example
    -------
    >>> x = speech_like(2, 8000, seed=1)
    >>> x.shape, bool((x == speech_like(2, 8000, seed=1)).all())
    ((16000,), True)
    """
    rng = np.random.default_rng(seed)
    size = round(seconds * sample_rate)
    pitch, pieces, done = rng.uniform(90, 240), [], 0
    while done < size:
        piece = _syllable(rng, sample_rate, pitch)
        pieces.append(piece)
        done += len(piece)
    signal = np.concatenate(pieces)[:size] + 1e-4 * rng.standard_normal(size)  # a quiet room
    return (_LEVEL * signal / np.sqrt(np.mean(signal**2))).astype(np.float32)


def make_mixture(
    seconds: float, sample_rate: int, recordings: Sequence[str | Path] = ()
) -> np.ndarray:
    """Make a mixture to measure on.

    Arguments
    ---------
    seconds : float
        Duration.
    sample_rate : int
        Hz.
    recordings : sequence of str or pathlib.Path
        Files that are joined, and repeated if they are too short. Without any, two voices of
        `speech_like` are mixed.

    Returns
    -------
    numpy.ndarray
        [T], float32.

    Raises
    ------
    UserError
        A recording cannot be read.
    """
    if not recordings:
        return sum(speech_like(seconds, sample_rate, seed) for seed in (0, 1))
    samples = np.concatenate([read_audio(path, sample_rate) for path in recordings])
    return np.resize(samples, round(seconds * sample_rate)).astype(np.float32)


def _syllable(rng, sample_rate, pitch):
    """One syllable, sometimes followed by a pause."""
    size = int(rng.uniform(0.12, 0.3) * sample_rate)
    envelope = np.sin(np.linspace(0, np.pi, size)) ** 0.7 * 10 ** rng.uniform(-0.6, 0)
    if rng.random() < 0.25:  # unvoiced: differentiated noise is high
        sound = 0.3 * np.diff(rng.standard_normal(size + 1))
    else:
        glide = pitch * np.linspace(*rng.uniform(0.85, 1.15, 2), size)
        sound = _voiced(glide, sample_rate, _VOWELS[rng.integers(len(_VOWELS))])
        sound = sound / (np.abs(sound).max() + 1e-9)
    pause = int(rng.uniform(0.1, 0.4) * sample_rate) if rng.random() < 0.2 else 0
    return np.concatenate([envelope * sound, np.zeros(pause)])


def _voiced(pitch, sample_rate, formants):
    """Glottal pulses at the pitch, through one resonator per formant."""
    phase = np.cumsum(pitch) / sample_rate
    sound = np.diff(np.floor(phase), prepend=0.0)
    for formant in formants:
        if formant < 0.45 * sample_rate:
            radius = np.exp(-np.pi * 80 / sample_rate)  # 80 Hz wide
            turn = 2 * np.pi * formant / sample_rate
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], sound)
    return sound
