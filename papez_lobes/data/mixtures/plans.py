"""Mixtures of speakers: a seeded plan, apart from its rendering.

A plan is plain data: who speaks, from which pieces of which files, how loud. It is drawn from
headers alone, or read from a list (`papez_lobes.data.mixtures.lists`), prints as one JSON line, and
always renders to the same samples (`papez_lobes.data.mixtures.rendering`), in files or on the fly
as training items (`papez_lobes.data.dynamic`). The rules are WSJ0-mix's, for any number of
speakers: sources at gains g and -g over a common active level, cut to the shortest ("min") or
filled up with silence to the longest ("max"), one common scale. Speed, rooms and noise may be
added; by default nothing is.
"""

import json
import re
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import cycle

import numpy as np

from papez_lobes.data.mixtures.equaliser import Equaliser, draw_equaliser
from papez_lobes.errors import UserError

PAUSE_SECONDS = (0.1, 0.3)  # between two utterances that are strung together
MAX_EQUALISER_DB = 40.0  # more than that is no recording any more
MIN_PIECE_SECONDS = 0.2  # less than that would be a click rather than speech


@dataclass(frozen=True)
class Piece:
    """A stretch of one file: its path below the root, first sample and number of samples (both at
    the file's own rate; None: to its end), after `pause` seconds of silence.

    The file may have another audio suffix than the path, see `papez_lobes.data.lookup.find_audio`.
    """

    path: str
    start: int = 0
    frames: int | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class SourcePlan:
    """One speaker's part in a mixture: pieces in order, a gain in dB over the common level, a speed
    (1.05: 5 % faster and higher), the file of a room's impulse response and the settings of an
    equaliser, if there are any."""

    speaker: str
    gain_db: float
    pieces: tuple[Piece, ...]
    speed: float = 1.0
    room: str | None = None
    equaliser: Equaliser | None = None


@dataclass(frozen=True)
class MixturePlan:
    """A mixture: its name (a file stem), its length in seconds at most (None: as long as the
    sources make it), C sources, and perhaps noise at an SNR in dB to the sum of the sources.

    Example
    -------
    >>> plan = MixturePlan("a", 4.0, (SourcePlan("ann", 0.0, (Piece("ann/1.flac", 80, 32000),)),))
    >>> MixturePlan.from_json(plan.to_json()) == plan
    True
    """

    name: str
    seconds: float | None
    sources: tuple[SourcePlan, ...]
    noise: tuple[Piece, ...] = ()
    noise_snr_db: float | None = None

    def to_json(self):
        """One line of JSON, without its newline."""
        return json.dumps(_plain(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line):
        """The inverse of `to_json`."""
        plan = json.loads(line)
        for part in (plan, *plan["sources"]):
            for key in ("pieces", "noise"):
                if key in part:
                    part[key] = tuple(Piece(**piece) for piece in part[key])
        for source in plan["sources"]:
            if "equaliser" in source:
                settings = source["equaliser"]
                peaks = tuple(tuple(peak) for peak in settings.get("peaks", ()))
                source["equaliser"] = Equaliser(settings.get("tilt_db", 0.0), peaks)
        plan["sources"] = tuple(SourcePlan(**source) for source in plan["sources"])
        return cls(**plan)


def _plain(plan):
    """As `dataclasses.asdict`, without what has its default, such as speed, room and noise."""
    if isinstance(plan, tuple):
        return [_plain(item) for item in plan]
    if not is_dataclass(plan):
        return plan
    values = {field: getattr(plan, field.name) for field in fields(plan)}
    return {
        field.name: _plain(value) for field, value in values.items()
        if isinstance(plan, Piece) or field.default is MISSING or value != field.default
    }


@dataclass(frozen=True)
class MixingRules:
    """How mixtures are drawn; each rule has a value that turns it off.

    Arguments
    ---------
    num_spks : int
        C, speakers per mixture, all different.
    seconds : tuple[float, float]
        Shortest and longest mixture; uniform between them.
    max_gain_db : float
        The largest gain g, see `draw_gains`; 0: all at one level.
    speed_change : float
        A source's speed is drawn from 1 - that to 1 + that, in whole percents; 0: as recorded.
    noises : list[Utterance]
        Files of noise; empty: none is added.
    noise_snr_db : tuple[float, float]
        Least and greatest SNR of the sources' sum to the noise; uniform between them.
    rooms : list[Utterance]
        Impulse responses; each source is heard in one, drawn apart. Empty: as recorded.
    tilt_db, equaliser_db : float
        Largest spectral tilt, and largest gain of the two peaks of a random equaliser, see
        `papez_lobes.data.mixtures.equaliser`; each source has its own. 0: as recorded.

    Raises
    ------
    ValueError
        A value is out of range.

    Example
    -------
    >>> MixingRules(speed_change=2)
    Traceback (most recent call last):
    ValueError: speed_change is 2: it must be at least 0 and below 0.5
    """

    num_spks: int = 2
    seconds: tuple[float, float] = (4.0, 8.0)
    max_gain_db: float = 2.5
    speed_change: float = 0.0
    noises: tuple = ()
    noise_snr_db: tuple[float, float] = (0.0, 15.0)
    rooms: tuple = ()
    tilt_db: float = 0.0
    equaliser_db: float = 0.0

    def __post_init__(self):
        if self.num_spks < 1:
            raise ValueError(f"num_spks is {self.num_spks}: it must be at least 1")
        if not 0 < self.seconds[0] <= self.seconds[1] < float("inf"):
            raise ValueError(f"seconds is {self.seconds}: it must be positive, shortest first")
        if not 0 <= self.max_gain_db < float("inf"):
            raise ValueError(f"max_gain_db is {self.max_gain_db}: it must be at least 0")
        if not 0 <= self.speed_change < 0.5:
            raise ValueError(
                f"speed_change is {self.speed_change}: it must be at least 0 and below 0.5"
            )
        for key in ("tilt_db", "equaliser_db"):
            if not 0 <= getattr(self, key) <= MAX_EQUALISER_DB:
                raise ValueError(f"{key} is {getattr(self, key)}: it must be at least 0 and at "
                                 f"most {MAX_EQUALISER_DB}")
        if not self.noise_snr_db[0] <= self.noise_snr_db[1]:
            raise ValueError(f"noise_snr_db is {self.noise_snr_db}: the least comes first")


def draw_mixture(speakers, rules, rng, index):
    """Draw the plan of one mixture.

    It draws its length, then different speakers and gains, then for each speaker utterances
    without repetition (unless there are no more of them): an utterance that is longer than what is
    still wanted is cropped at a random offset, shorter ones are strung together with short pauses.
    Utterances are drawn in proportion to their duration, so that every second of a speaker is heard
    about as often as any other. Rooms, equalisers and noise are drawn last, if there are any.

    Arguments
    ---------
    speakers : Mapping[str, Sequence[Utterance]]
        As from `scan_speakers`.
    rules : MixingRules
    rng : numpy.random.Generator
        As from `mixture_rng`.
    index : int
        The mixture's number, for its name.

    Returns
    -------
    MixturePlan

    Raises
    ------
    UserError
        There are fewer speakers than `num_spks`.
    """
    length = round(float(rng.uniform(*rules.seconds)), 3)
    chosen = draw_speakers(speakers, rules.num_spks, rng)
    gains = draw_gains(rules.num_spks, rules.max_gain_db, rng)
    sources = []
    for name, gain in zip(chosen, gains):
        speed = _draw_speed(rules.speed_change, rng)
        pieces = string_together(speakers[name], length * speed, rng)
        room = rules.rooms[rng.integers(len(rules.rooms))].path if rules.rooms else None
        equaliser = draw_equaliser(rules.tilt_db, rules.equaliser_db, rng)
        sources.append(SourcePlan(name, gain, pieces, speed, room, equaliser))
    noise, snr = (), None
    if rules.noises:
        noise = string_together(rules.noises, length, rng)
        snr = round(float(rng.uniform(*rules.noise_snr_db)), 2)
    return MixturePlan(_name(index, sources), length, tuple(sources), noise, snr)


def _draw_speed(change, rng):
    if not change:
        return 1.0
    percent = round(100 * change)
    return int(rng.integers(100 - percent, 101 + percent)) / 100


def plan_mixtures(speakers, count, num_spks, seconds=(4.0, 8.0), max_gain_db=2.5, seed=0):
    """Draw plans, each with `draw_mixture`; mixture i depends on the seed and on i, not on `count`.

    Arguments
    ---------
    speakers : dict[str, list[Utterance]]
        As from `scan_speakers`.
    count : int
        Number of mixtures.
    num_spks, seconds, max_gain_db
        See `MixingRules`.
    seed : int or tuple[int, ...]
        Non-negative; a tuple keeps e.g. splits apart: (seed, split number).

    Returns
    -------
    list[MixturePlan]

    Raises
    ------
    UserError
        There are fewer than `num_spks` speakers.
    ValueError
        As `MixingRules`.

    Example
    -------
    >>> from papez_lobes.data.mixtures.speakers import Utterance
    >>> speakers = {name: [Utterance(f"{name}/1.wav", 60.0, 8000)] for name in ("ann", "bob")}
    >>> plan, = plan_mixtures(speakers, count=1, num_spks=2, seed=1)
    >>> [source.gain_db for source in plan.sources]
    [0.3604, -0.3604]
    """
    rules = MixingRules(num_spks, seconds, max_gain_db)
    return [draw_mixture(speakers, rules, mixture_rng(seed, index), index)
            for index in range(count)]


def mixture_rng(seed, index):
    """The source of randomness of one mixture; seed is an int or a tuple of them, all >= 0."""
    return np.random.default_rng((*(seed if isinstance(seed, tuple) else (seed,)), index))


def draw_speakers(speakers, num_spks, rng):
    """Names of `num_spks` different speakers; UserError if there are fewer."""
    if len(speakers) < num_spks:
        raise UserError(
            f"{len(speakers)} speaker(s): too few for mixtures of {num_spks}; "
            "add a folder for each further speaker"
        )
    names = sorted(speakers)
    return [names[index] for index in rng.choice(len(names), num_spks, replace=False)]


def draw_gains(num_spks, max_gain_db, rng):
    """Gains in dB as WSJ0-mix has them: g, -g for 2 speakers; g, -g, 0 for 3.

    Further pairs get a g of their own; a speaker without a partner gets 0. g is uniform from 0
    to `max_gain_db`, kept to five significant digits as in WSJ0-mix's lists.

    Example
    -------
    >>> draw_gains(5, 2.5, np.random.default_rng(0))
    [1.5924, -1.5924, 0.67447, -0.67447, 0.0]
    """
    gains = []
    for gain in rng.uniform(0, max_gain_db, num_spks // 2):
        gain = float(f"{gain:.5g}")
        gains += [gain, -gain]
    return gains + [0.0] * (num_spks % 2)


def string_together(utterances, seconds, rng):
    """Pieces of one speaker that last `seconds` at least (see `plan_mixtures`).

    Example
    -------
    >>> from papez_lobes.data.mixtures.speakers import Utterance
    >>> pieces = string_together([Utterance("a.wav", 60.0, 8000)], 4.0, np.random.default_rng(0))
    >>> [piece.frames for piece in pieces]
    [32000]
    """
    durations = np.array([utterance.seconds for utterance in utterances])
    # Sampling without replacement in proportion to duration (Efraimidis and Spirakis, 2006).
    order = np.argsort(rng.exponential(size=len(durations)) / durations)
    pieces, remaining = [], seconds
    for index in cycle(order):
        if remaining <= 0:
            return tuple(pieces)
        utterance = utterances[index]
        pause = round(float(rng.uniform(*PAUSE_SECONDS)), 3) if pieces else 0.0
        wanted = max(remaining - pause, MIN_PIECE_SECONDS)
        total = round(utterance.seconds * utterance.sample_rate)
        frames = min(total, int(np.ceil(wanted * utterance.sample_rate)))
        start = int(rng.integers(total - frames + 1))
        pieces.append(Piece(utterance.path, start, frames, pause))
        remaining -= pause + frames / utterance.sample_rate


def _name(index, sources):
    """Number, speakers and gains, in the spirit of WSJ0-mix's names; safe as a file name."""
    parts = [f"{index:06d}"]
    for source in sources:
        # WSJ0-mix names a source by its file; here that may be several, so by its speaker.
        parts += [re.sub(r"[^\w.-]+", "-", source.speaker)[:24], gain_name(source.gain_db)]
    return "_".join(parts)


def gain_name(gain_db):
    """A gain as WSJ0-mix's file names have it.

    Example
    -------
    >>> [gain_name(gain) for gain in (0.604312, -1.2, -0.0)]
    ['0.60431', '-1.2', '0']
    """
    return f"{gain_db + 0.0:.5g}"  # the sum makes -0 a 0
