"""Mixtures to measure on: recordings, or two synthetic voices from a seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from papez_lobes.data.audio import read_audio

SYLLABLES = 4  # per second
LEVEL = 0.1  # root mean square of a voice


def make_mixture(
    seconds: float, sample_rate: int, recordings: Sequence[str | Path] = ()
) -> np.ndarray:
    """Make a mixture [T] to measure on, float32, of so many seconds at a rate in Hz.

    Recordings are joined, and repeated if they are too short; UserError if one cannot be read.
    Without any, two synthetic voices are mixed. They have levels, onsets and pauses like speech,
    which decide how many steps a token runs, but no meaning.

    Example
    -------
    >>> make_mixture(0.5, 8000).shape
    (4000,)
    """
    if not recordings:
        return _voice(seconds, sample_rate, seed=0) + _voice(seconds, sample_rate, seed=1)
    samples = np.concatenate([read_audio(path, sample_rate) for path in recordings])
    return np.resize(samples, round(seconds * sample_rate)).astype(np.float32)


def _voice(seconds, sample_rate, seed):
    """Harmonics of a gliding pitch, and some noise, in syllables; a fifth of these are pauses."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    edges = np.arange(np.ceil(seconds * SYLLABLES) + 1) / SYLLABLES
    pitch = np.interp(time, edges, rng.uniform(90, 240) * rng.uniform(0.85, 1.15, len(edges)))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    sound = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 15))
    sound = sound + 0.1 * rng.standard_normal(len(time))
    levels = 10 ** rng.uniform(-0.6, 0, len(edges)) * (rng.random(len(edges)) > 0.2)
    rise_and_fall = np.abs(np.sin(np.pi * SYLLABLES * time))
    sound *= levels[(time * SYLLABLES).astype(int)] * rise_and_fall
    sound += 1e-4 * rng.standard_normal(len(time))  # a quiet room
    return (LEVEL * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)
