"""Who speaks when: full overlap, partial overlap, turns, or one speaker alone.

Each mixture is of one kind. A share `single_speaker` of the mixtures has one speaker alone, while
the others are silent. In a share `turns` the speakers alternate with pauses of `pause_seconds`. In
the rest each speaker speaks once, and the next one begins before the one before has ended:
`overlap` is the overlapped share of the shorter of these two utterances. An overlap of 1 stands for
full overlap, in which all speakers speak from the beginning to the end.
"""

import numpy as np

from papez_lobes.data.mixtures.rules import MixingRules

Stretch = tuple[float, float]  # start and duration in a mixture, in seconds

TURN_SECONDS = (1.0, 4.0)  # range of a turn; no longer than the mixture's length by C
MIN_TURN_SECONDS = 0.5  # what is left of the mixture for a last turn
SHORTEST = 0.5  # relative length of the shortest of overlapping utterances, the longest having 1


def draw_stretches(
    rules: MixingRules, seconds: float, rng: np.random.Generator
) -> list[list[Stretch]] | None:
    """Draw in which stretches of a mixture of so many seconds each speaker speaks.

    Returns C lists of (start, duration), empty for a silent speaker; or None if the rules allow
    only full overlap, for which nothing is drawn.
    """
    if rules.turns == rules.single_speaker == 0 and rules.overlap[0] == 1:
        return None
    kind = rng.random()
    order = rng.permutation(rules.num_spks).tolist()
    stretches = [[] for _ in order]
    if kind < rules.single_speaker:
        stretches[order[0]].append((0.0, seconds))
    elif kind < rules.single_speaker + rules.turns:
        for turn, stretch in enumerate(_draw_turns(rules, seconds, rng)):
            stretches[order[turn % len(order)]].append(stretch)
    else:
        for speaker, stretch in zip(order, _draw_overlapped(rules, seconds, rng)):
            stretches[speaker].append(stretch)
    return stretches


def _draw_turns(rules, seconds, rng):
    """Draw turns with pauses between them, until the mixture ends."""
    turns, start = [], 0.0
    while not turns or seconds - start >= MIN_TURN_SECONDS:
        duration = min(rng.uniform(*TURN_SECONDS), seconds / rules.num_spks, seconds - start)
        turns.append((start, duration))
        start += duration + rng.uniform(*rules.pause_seconds)
    return turns


def _draw_overlapped(rules, seconds, rng):
    """Draw one stretch for each speaker; each overlaps the one before by the same share."""
    share = rng.uniform(*rules.overlap)
    if share == 1:
        return [(0.0, seconds)] * rules.num_spks
    durations = rng.uniform(SHORTEST, 1, rules.num_spks)
    shared = share * np.minimum(durations[:-1], durations[1:])  # by neighbours
    starts = np.concatenate([[0], np.cumsum(durations[:-1] - shared)])
    scale = seconds / (starts[-1] + durations[-1])
    return [(float(scale * start), float(scale * duration))
            for start, duration in zip(starts, durations)]
