"""Depths of tokens (their steps), by the number of speakers who are active in them."""

from collections import Counter

import numpy as np

from papez_lobes.evaluation.leakage import active_frames, frame_of


def count_depths(depth: np.ndarray, sources: np.ndarray, sample_rate: int) -> Counter:
    """Count the tokens of one mixture: (speakers active in its middle, steps) -> tokens.

    `depth` [L] holds the steps of each token, and `sources` are [T, C], of a rate in Hz.

    Example
    -------
    >>> sources = np.stack([np.ones(8000), np.repeat([0.0, 1.0], 4000)], axis=1)
    >>> sorted(count_depths(np.array([2, 2, 3, 4]), sources, 8000).items())
    [((1, 2), 2), ((2, 3), 1), ((2, 4), 1)]
    """
    middles = ((np.arange(len(depth)) + 0.5) * len(sources) / len(depth)).astype(int)
    speakers = active_frames(sources, sample_rate).sum(axis=1)
    heard = speakers[frame_of(middles, sample_rate)]
    return Counter(zip(heard.tolist(), depth.tolist()))


def describe_depths(counts: Counter) -> dict:
    """Mean and standard deviation of the depth, and tokens and mean by the number of speakers.

    Example
    -------
    >>> describe_depths(Counter({(0, 2): 2, (1, 2): 1, (1, 4): 1}))
    {'mean': 2.5, 'sd': 0.866, 'by_speakers': {0: (2, 2.0), 1: (2, 3.0)}}
    """
    speakers, depths = np.array(list(counts)).T
    tokens = np.array(list(counts.values()))
    mean = np.average(depths, weights=tokens)
    sd = np.average((depths - mean) ** 2, weights=tokens) ** 0.5
    groups = {}
    for number in sorted(set(speakers.tolist())):
        own = speakers == number
        own_mean = np.average(depths[own], weights=tokens[own])
        groups[number] = int(tokens[own].sum()), round(float(own_mean), 3)
    return {"mean": round(float(mean), 3), "sd": round(float(sd), 3), "by_speakers": groups}


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
