"""Who speaks when: full overlap, partial overlap, turns, or one speaker alone.

Each mixture is of one kind. A share `single_speaker` of the mixtures has one speaker alone, while
the others are silent. In a share `turns` the speakers alternate with pauses of `pause_seconds`. In
the rest each speaker speaks once, and the next one begins before the one before has ended:
`overlap` is the overlapped share of the shorter of these two utterances. An overlap of 1 stands for
full overlap, in which all speakers speak from the beginning to the end.
"""

import numpy as np

Stretch = tuple[float, float]  # start and duration in a mixture, in seconds

TURN_SECONDS = (1.0, 4.0)  # range of a turn; no longer than the mixture's length by C
MIN_TURN_SECONDS = 0.5  # what is left of the mixture for a last turn
SHORTEST = 0.5  # relative length of the shortest of overlapping utterances, the longest having 1


def draw_stretches(
    num_spks: int, seconds: float, overlap: tuple[float, float], turns: float,
    single_speaker: float, pause_seconds: tuple[float, float], rng: np.random.Generator,
) -> list[list[Stretch]] | None:
    """Draw in which stretches of a mixture each speaker speaks.

    Arguments
    ---------
    num_spks : int
        Speakers C.
    seconds : float
        Length of the mixture.
    overlap : tuple[float, float]
        Range of the overlapped share, from 0 to 1.
    turns, single_speaker : float
        Shares of mixtures, from 0 to 1.
    pause_seconds : tuple[float, float]
        Range of the pauses between turns.
    rng : numpy.random.Generator
        Not used if the options leave only full overlap.

    Returns
    -------
    list[list[Stretch]] or None
        (start, duration) of the stretches of each speaker, none for a silent one; or None for full
        overlap by the defaults.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> draw_stretches(2, 4.0, (1, 1), 0.0, 1.0, (0.2, 1.0), rng)
    [[(0.0, 4.0)], []]
    """
    if turns == single_speaker == 0 and overlap[0] == 1:
        return None
    kind = rng.random()
    order = rng.permutation(num_spks).tolist()
    stretches = [[] for _ in order]
    if kind < single_speaker:
        stretches[order[0]].append((0.0, seconds))
    elif kind < single_speaker + turns:
        for turn, stretch in enumerate(_draw_turns(num_spks, seconds, pause_seconds, rng)):
            stretches[order[turn % num_spks]].append(stretch)
    else:
        for speaker, stretch in zip(order, _draw_overlapped(num_spks, seconds, overlap, rng)):
            stretches[speaker].append(stretch)
    return stretches


def _draw_turns(num_spks, seconds, pause_seconds, rng):
    """Draw turns with pauses between them, until the mixture ends."""
    turns, start = [], 0.0
    while not turns or seconds - start >= MIN_TURN_SECONDS:
        duration = min(rng.uniform(*TURN_SECONDS), seconds / num_spks, seconds - start)
        turns.append((start, duration))
        start += duration + rng.uniform(*pause_seconds)
    return turns


def _draw_overlapped(num_spks, seconds, overlap, rng):
    """Draw one stretch for each speaker; each overlaps the one before by the same share."""
    share = rng.uniform(*overlap)
    if share == 1:
        return [(0.0, seconds)] * num_spks
    durations = rng.uniform(SHORTEST, 1, num_spks)
    shared = share * np.minimum(durations[:-1], durations[1:])  # by neighbours
    starts = np.concatenate([[0], np.cumsum(durations[:-1] - shared)])
    scale = seconds / (starts[-1] + durations[-1])
    return [(float(scale * start), float(scale * duration))
            for start, duration in zip(starts, durations)]
