"""Mixtures of speakers: a seeded plan, apart from its rendering.

A plan is plain data: who speaks, from which pieces of which files, how loud. It is drawn from
headers alone, or read from a list (`papez_lobes.data.lists`), prints as one JSON line, and always
renders to the same samples. The rules are WSJ0-mix's, for any number of speakers: sources at gains
g and -g over a common active level, cut to the shortest ("min") or filled up with silence to the
longest ("max"), one common scale.
"""

import json
import re
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from papez_lobes.data.audio import audio_info, read_audio
from papez_lobes.data.levels import active_speech_level
from papez_lobes.data.lookup import find_audio
from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError

PEAK = 0.9  # of the loudest sample in the mixture and its sources, as in WSJ0-mix
PAUSE_SECONDS = (0.1, 0.3)  # between two utterances that are strung together
MIN_PIECE_SECONDS = 0.2  # less than that would be a click rather than speech
LEVEL_RATE = 8000  # Hz, at which levels are measured whatever the rate of the mixture
SILENCE = 2.0**-30  # power of one step of 16 bit: what is not louder has no level to go by


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
    """One speaker's part in a mixture: pieces in order, and a gain in dB over the common level."""

    speaker: str
    gain_db: float
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class MixturePlan:
    """A mixture: its name (a file stem), its length in seconds at most (None: as long as the
    sources make it), and C sources.

    Example
    -------
    >>> plan = MixturePlan("a", 4.0, (SourcePlan("ann", 0.0, (Piece("ann/1.flac", 80, 32000),)),))
    >>> MixturePlan.from_json(plan.to_json()) == plan
    True
    """

    name: str
    seconds: float | None
    sources: tuple[SourcePlan, ...]

    def to_json(self):
        """One line of JSON, without its newline."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line):
        """The inverse of `to_json`."""
        fields = json.loads(line)
        sources = tuple(
            SourcePlan(
                source["speaker"], source["gain_db"], tuple(Piece(**p) for p in source["pieces"])
            )
            for source in fields["sources"]
        )
        return cls(fields["name"], fields["seconds"], sources)


def plan_mixtures(speakers, count, num_spks, seconds=(4.0, 8.0), max_gain_db=2.5, seed=0):
    """Draw plans; mixture i depends on the seed and on i, not on `count`.

    Each mixture draws its length, then different speakers, then for each of them utterances
    without repetition (unless the speaker has no more of them): an utterance that is longer than
    what is still wanted is cropped at a random offset, shorter ones are strung together with
    short pauses. Utterances are drawn in proportion to their duration, so that every second of
    a speaker is heard about as often as any other.

    Arguments
    ---------
    speakers : dict[str, list[Utterance]]
        As from `scan_speakers`.
    count : int
        Number of mixtures.
    num_spks : int
        C, speakers per mixture.
    seconds : tuple[float, float]
        Shortest and longest mixture; uniform between them.
    max_gain_db : float
        The largest gain g, see `draw_gains`.
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
        `num_spks` < 1, or not 0 < shortest <= longest.

    Example
    -------
    >>> from papez_lobes.data.speakers import Utterance
    >>> speakers = {name: [Utterance(f"{name}/1.wav", 60.0, 8000)] for name in ("ann", "bob")}
    >>> plan, = plan_mixtures(speakers, count=1, num_spks=2, seed=1)
    >>> [source.gain_db for source in plan.sources]
    [0.3604, -0.3604]
    """
    if num_spks < 1 or not 0 < seconds[0] <= seconds[1]:
        raise ValueError(f"impossible mixtures: num_spks {num_spks}, seconds {seconds}")
    plans = []
    for index in range(count):
        rng = mixture_rng(seed, index)
        length = round(float(rng.uniform(*seconds)), 3)
        chosen = draw_speakers(speakers, num_spks, rng)
        gains = draw_gains(num_spks, max_gain_db, rng)
        sources = tuple(
            SourcePlan(name, gain, string_together(speakers[name], length, rng))
            for name, gain in zip(chosen, gains)
        )
        plans.append(MixturePlan(_name(index, sources), length, sources))
    return plans


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
    >>> from papez_lobes.data.speakers import Utterance
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


def render(plan, sample_rate, root, version="min"):
    """Make the samples of a plan.

    Arguments
    ---------
    plan : MixturePlan
    sample_rate : int
        In Hz; files of another rate are resampled. Gains do not depend on it: they are set over
        the level at 8 kHz, as in WSJ0-mix.
    root : str or pathlib.Path
        The folder that the plan's paths are below.
    version : "min" or "max"
        Cut to the shortest source, or fill up with zeros to the longest.

    Returns
    -------
    mixture : numpy.ndarray
        [T], float64: the sum of the sources.
    sources : numpy.ndarray
        [T, C], float64. The largest absolute sample of mixture and sources together is 0.9.

    Raises
    ------
    UserError
        A file cannot be read, or a source is silent and thus has no level.
    """
    parts = [render_source(source, sample_rate, root) for source in plan.sources]
    length = {"min": min, "max": max}[version](map(len, parts))
    if plan.seconds is not None:
        length = min(length, round(plan.seconds * sample_rate))
    sources = np.zeros((len(parts), length))  # [C, T]: sums over C are quick so
    for row, part in zip(sources, parts):
        row[: len(part)] = part[:length]
    peak = max(np.abs(sources).max(), np.abs(sources.sum(axis=0)).max())
    if peak == 0:  # all that was audible was cut off
        raise UserError(f"{plan.name}: {_heard(plan.sources[0])} is silent; leave its files out")
    sources *= PEAK / peak
    return sources.sum(axis=0), sources.T


def render_source(source, sample_rate, root):
    """String a source's pieces together at its gain over an active level of 1: [T], float64."""
    recordings = [_record(piece, root) for piece in source.pieces]
    samples = _string(recordings, sample_rate)
    narrow = samples if sample_rate == LEVEL_RATE else _string(recordings, LEVEL_RATE)
    power, _ = active_speech_level(narrow, LEVEL_RATE)
    if power <= SILENCE:
        raise UserError(f"{Path(root)}: {_heard(source)} is silent; leave its files out")
    return samples * 10 ** (source.gain_db / 20) / np.sqrt(power)


def _record(piece, root):
    """(seconds of silence before it, its samples in float64, their rate in Hz)."""
    path = find_audio(root, piece.path)
    samples = read_audio(path, start=piece.start, frames=piece.frames)
    return piece.pause, samples.astype(np.float64), audio_info(path).sample_rate


def _string(recordings, sample_rate):
    parts = []
    for pause, samples, own_rate in recordings:
        parts += [np.zeros(round(pause * sample_rate)), resample(samples, own_rate, sample_rate)]
    return np.concatenate(parts)


def _heard(source):
    return f"{source.speaker} ({', '.join(piece.path for piece in source.pieces)})"
