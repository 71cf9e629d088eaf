"""The rules by which mixtures are drawn, and who speaks when.

Each mixture is of one kind. A share `single_speaker` of the mixtures has one speaker alone, while
the others are silent. In a share `turns` the speakers alternate with pauses of `pause_seconds`. In
the rest each speaker speaks once, and the next one begins before the one before has ended:
`overlap` is the overlapped share of the shorter of these two utterances. An overlap of 1 stands for
full overlap, in which all speakers speak from the beginning to the end.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from papez_lobes.data.mixtures.speakers import Utterance
from papez_lobes.errors import UserError

MIN_SECONDS = 0.1  # of a mixture
MAX_EQUALISER_DB = 40.0  # beyond it, nothing of the recording is left
TURN_SECONDS = (1.0, 4.0)  # range of a turn; no longer than the mixture's length by C
MIN_TURN_SECONDS = 0.5  # what is left of the mixture for a last turn
SHORTEST = 0.5  # relative length of the shortest of overlapping utterances, the longest having 1

Stretch = tuple[float, float]  # start and duration in a mixture, in seconds


@dataclass(frozen=True)
class MixingRules:
    """How mixtures are drawn. The defaults are WSJ0-mix's rules. UserError if a value is wrong.

    Who speaks when is said above. By default all speakers speak all the time.

    Example
    -------
    >>> MixingRules(speed_change=2)
    Traceback (most recent call last):
    papez_lobes.errors.UserError: speed_change 2: must be 0 or more and below 0.5
    """

    num_spks: int = 2  # speakers C of a mixture, all different
    seconds: tuple[float, float] = (4.0, 8.0)  # shortest and longest mixture; uniform between them
    max_gain_db: float = 2.5  # see `draw_gains` of plans.py; 0: all at one level
    speed_change: float = 0.0  # speeds are from 1 - this to 1 + this, in whole percents
    noises: tuple[Utterance, ...] = ()  # files of noise; empty: none is added
    noise_snr_db: tuple[float, float] = (0.0, 15.0)  # of the sources' sum to the noise; uniform
    rooms: tuple[Utterance, ...] = ()  # impulse responses, one for each source; empty: as recorded
    tilt_db: float = 0.0  # largest spectral tilt of an equaliser for each source
    equaliser_db: float = 0.0  # and largest gain of its two peaks; 0: as recorded
    overlap: tuple[float, float] = (1.0, 1.0)
    turns: float = 0.0
    single_speaker: float = 0.0
    pause_seconds: tuple[float, float] = (0.2, 1.0)
    noise_share: float = 1.0  # share of the mixtures that have noise, where there are files of it
    room_share: float = 1.0  # share of the mixtures that are in rooms, where there are any
    speaker_shares: tuple[float, ...] = ()  # of the draws, sorted by speaker; empty: all alike

    def __post_init__(self):
        checks = {
            "num_spks": (self.num_spks >= 1, "1 or more"),
            "seconds": (_is_range(self.seconds, MIN_SECONDS),
                        f"finite and at least {MIN_SECONDS}, shortest first"),
            "max_gain_db": (0 <= self.max_gain_db < math.inf, "0 or more"),
            "speed_change": (0 <= self.speed_change < 0.5, "0 or more and below 0.5"),
            "noise_share": (0 <= self.noise_share <= 1, "from 0 to 1"),
            "room_share": (0 <= self.room_share <= 1, "from 0 to 1"),
            "noise_snr_db": (_is_range(self.noise_snr_db, -math.inf), "finite, least first"),
            "tilt_db": (0 <= self.tilt_db <= MAX_EQUALISER_DB, f"0 to {MAX_EQUALISER_DB:g}"),
            "equaliser_db": (0 <= self.equaliser_db <= MAX_EQUALISER_DB,
                             f"0 to {MAX_EQUALISER_DB:g}"),
            "overlap": (_is_range(self.overlap, 0, 1), "from 0 to 1, least first"),
            "turns": (0 <= self.turns <= 1, "from 0 to 1"),
            "single_speaker": (0 <= self.single_speaker and self.turns + self.single_speaker <= 1,
                               "from 0 to 1, together with turns"),
            "pause_seconds": (_is_range(self.pause_seconds, 0), "finite, shortest first"),
        }
        for name, (holds, allowed) in checks.items():
            if not holds:
                value = getattr(self, name)
                value = value if np.isscalar(value) else " ".join(map(str, value))
                raise UserError(f"{name} {value}: must be {allowed}")


def _is_range(value: Sequence[float], least: float, most: float = sys.float_info.max) -> bool:
    """True if a value is a least and a greatest number within bounds."""
    return len(value) == 2 and least <= value[0] <= value[1] <= most


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
