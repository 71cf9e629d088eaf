"""Depths of tokens (their steps), by the number of speakers who are heard in them."""

from collections import Counter

import numpy as np
from scipy.ndimage import uniform_filter1d

WINDOW = 0.02  # seconds over which the power of a source is averaged
FLOOR_DB = -35.0  # below this power, relative to its maximum, a source counts as silent


def count_depths(depth: np.ndarray, sources: np.ndarray, sample_rate: int) -> Counter:
    """Count the tokens of one mixture.

    Arguments
    ---------
    depth : numpy.ndarray
        [L], steps of each token.
    sources : numpy.ndarray
        [T, C].
    sample_rate : int
        Hz.

    Returns
    -------
    Counter
        (speakers heard in the middle of the token, steps) -> tokens.

    Example
    -------
    >>> sources = np.stack([np.ones(8000), np.repeat([0.0, 1.0], 4000)], axis=1)
    >>> sorted(count_depths(np.array([2, 2, 3, 4]), sources, 8000).items())
    [((1, 2), 2), ((2, 3), 1), ((2, 4), 1)]
    """
    size = max(1, min(len(sources), round(WINDOW * sample_rate)))
    middles = ((np.arange(len(depth)) + 0.5) * len(sources) / len(depth)).astype(int)
    heard = np.zeros(len(depth), int)
    for source in sources.T.astype(float):
        power = uniform_filter1d(source**2, size, mode="constant")
        heard += power[middles] > power.max() * 10 ** (FLOOR_DB / 10)
    return Counter(zip(heard.tolist(), depth.tolist()))


def describe_depths(counts: Counter) -> dict:
    """Mean and standard deviation of the depth, and tokens and mean by the number of speakers.

    Example
    -------
    >>> describe_depths(Counter({(0, 2): 2, (1, 2): 1, (1, 4): 1}))
    {'mean': 2.5, 'sd': 0.866, 'by_speakers': {0: (2, 2.0), 1: (2, 3.0)}}
    """
    tokens = sum(counts.values())
    mean = sum(depth * count for (_, depth), count in counts.items()) / tokens
    square = sum((depth - mean) ** 2 * count for (_, depth), count in counts.items()) / tokens
    groups = {}
    for speakers in sorted({speakers for speakers, _ in counts}):
        own = {depth: count for (number, depth), count in counts.items() if number == speakers}
        total = sum(own.values())
        groups[speakers] = total, round(sum(d * n for d, n in own.items()) / total, 3)
    return {"mean": round(mean, 3), "sd": round(square**0.5, 3), "by_speakers": groups}


def depth_line(described: dict) -> str:
    """A sentence about the result of `describe_depths`.

    Example
    -------
    >>> depth_line({"mean": 2.5, "sd": 0.866, "by_speakers": {0: (2, 2.0), 1: (2, 3.0)}})
    'Steps of a token: 2.50 (sd 0.87) in the mean; 2.00 where 0 speak, 3.00 where 1 speak.'
    """
    parts = [f"{mean:.2f} where {n} speak" for n, (_, mean) in described["by_speakers"].items()]
    return (f"Steps of a token: {described['mean']:.2f} (sd {described['sd']:.2f}) in the mean; "
            f"{', '.join(parts)}.")
