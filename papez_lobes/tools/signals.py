"""Signals to measure on: recordings, or a synthetic stand-in for speech from a seed."""

import numpy as np
from scipy.signal import lfilter

from papez_lobes.data.audio import read_audio

_VOWELS = np.array([  # Hz: the first three formants of some vowels
    (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410),
])
_LEVEL = 0.1  # root mean square


def speech_like(seconds, sample_rate, seed):
    """A stand-in for speech: voiced and unvoiced syllables and pauses, from a seed.

    Harmonics under three formants, with a gliding pitch; bursts of high noise; four to five
    syllables a second. It is there to have the levels, onsets and silences of speech, by which
    tokens differ, and is not meant to be understood.

    Arguments
    ---------
    seconds : float
        Duration.
    sample_rate : int
        Hz.
    seed : int
        Of voice and syllables.

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


def mixture(seconds, sample_rate, speech=()):
    """A mixture to measure on.

    Arguments
    ---------
    seconds : float
        Duration.
    sample_rate : int
        Hz.
    speech : sequence of str or pathlib.Path
        Recordings, taken one after the other, and from the beginning again if they are short.
        Without any: two voices of `speech_like` together.

    Returns
    -------
    numpy.ndarray
        [T], float32.

    Raises
    ------
    UserError
        If a recording cannot be read.
    """
    if not speech:
        return sum(speech_like(seconds, sample_rate, seed) for seed in (0, 1))
    samples = np.concatenate([read_audio(path, sample_rate) for path in speech])
    return np.resize(samples, round(seconds * sample_rate)).astype(np.float32)


def _syllable(rng, sample_rate, pitch):
    """One syllable, and at times the pause after it."""
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
    """A pulse at each turn of the pitch's phase, through one resonator a formant."""
    phase = np.cumsum(pitch) / sample_rate
    sound = np.diff(np.floor(phase), prepend=0.0)
    for formant in formants:
        if formant < 0.45 * sample_rate:
            radius = np.exp(-np.pi * 80 / sample_rate)  # 80 Hz wide
            turn = 2 * np.pi * formant / sample_rate
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], sound)
    return sound
