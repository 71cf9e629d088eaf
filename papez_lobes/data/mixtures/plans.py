"""Plans of mixtures: who speaks, from which pieces of which files, when and how loud.

A plan is plain data. It is drawn from headers alone or read from a list
(`papez_lobes.data.mixtures.lists`), prints as one JSON line, and always renders to the same samples
(`papez_lobes.data.mixtures.rendering`). The rules are WSJ0-mix's, for any number of speakers.
Conversations, speed, rooms, equalisers and noise are off by default.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from itertools import cycle
from pathlib import Path

import numpy as np

from papez_lobes.data.mixtures.equaliser import Equaliser, draw_equaliser
from papez_lobes.data.mixtures.rules import MixingRules, Stretch, draw_stretches
from papez_lobes.data.mixtures.speakers import Utterance
from papez_lobes.errors import UserError

Speakers = Mapping[str, Sequence[Utterance]]  # speaker -> utterances, as from `scan_speakers`
Seed = int | tuple[int, ...]

PAUSE_SECONDS = (0.1, 0.3)  # between two utterances that are strung together
MIN_PIECE_SECONDS = 0.2  # a shorter piece would be a click rather than speech
DRAWS = 100  # for a mixture that is not there yet
MAX_NAME_BYTES = 240  # file systems take 255, of which suffixes need some


@dataclass(frozen=True)
class Piece:
    """A stretch of one file, after `pause` seconds of silence.

    `path` is below the root, perhaps with another audio suffix than the file has (see
    `papez_lobes.data.lookup.find_audio`). `start` and `frames` are the first sample and the number
    of samples at the file's own rate; None: to its end.
    """

    path: str
    start: int = 0
    frames: int | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class SourcePlan:
    """One speaker's part in a mixture.

    `gain_db` is over the level that all sources share. The pieces are in order; a silent speaker
    has none. A `speed` of 1.05 is 5 % faster and higher. `room` is the file of an impulse response.
    """

    speaker: str
    gain_db: float
    pieces: tuple[Piece, ...]
    speed: float = 1.0
    room: str | None = None
    equaliser: Equaliser | None = None


@dataclass(frozen=True)
class MixturePlan:
    """A mixture of C sources, and perhaps noise.

    `name` is the stem of its files. It has at most `seconds`, or, if that is None, the length of
    the sources. If it is `filled`, as conversations are, every source is filled up with zeros to
    `seconds`. `noise_snr_db` is the ratio of the sum of the sources to the noise.

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
    filled: bool = False

    def to_json(self) -> str:
        """Return one line of JSON, without its newline."""
        return json.dumps(_plain(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "MixturePlan":
        """Make the plan that `to_json` has printed."""
        plan = json.loads(line)
        for part in (plan, *plan["sources"]):
            for key in ("pieces", "noise"):
                if key in part:
                    part[key] = tuple(Piece(**piece) for piece in part[key])
        for source in plan["sources"]:
            if "equaliser" in source:
                peaks = map(tuple, source["equaliser"].pop("peaks", ()))
                source["equaliser"] = Equaliser(**source["equaliser"], peaks=tuple(peaks))
        plan["sources"] = tuple(SourcePlan(**source) for source in plan["sources"])
        return cls(**plan)


def _plain(plan):
    """Like `dataclasses.asdict`, but without defaults, other than those of pieces."""
    if isinstance(plan, Piece):
        return asdict(plan)
    if isinstance(plan, tuple):
        return [_plain(item) for item in plan]
    if not is_dataclass(plan):
        return plan
    return {field.name: _plain(value) for field in fields(plan)
            if (value := getattr(plan, field.name)) != field.default}


def draw_mixture(
    speakers: Speakers, rules: MixingRules, rng: np.random.Generator, index: int
) -> MixturePlan:
    """Draw the plan of one mixture from speakers, as `scan_speakers` finds them.

    First its length is drawn, then different speakers, gains and who speaks when, then for each
    speaker utterances without repetition, unless there are no more of them: an utterance that is
    longer than needed is cropped at a random offset, shorter ones are strung together with short
    pauses. Utterances are drawn in proportion to their duration, so that every second of a speaker
    is heard about as often as any other. UserError if there are too few speakers. `rng` is as from
    `mixture_rng`, and `index` is the mixture's number, for its name.
    """
    length = round(float(rng.uniform(*rules.seconds)), 3)
    chosen = draw_speakers(speakers, rules.num_spks, rng, rules.speaker_shares)
    gains = draw_gains(rules.num_spks, rules.max_gain_db, rng)
    stretches = draw_stretches(rules, length, rng)
    change = round(100 * rules.speed_change)  # in percent
    in_rooms = bool(rules.rooms) and _is_among(rules.room_share, rng)
    sources = []
    for number, (name, gain) in enumerate(zip(chosen, gains)):
        speed = 1.0
        if change:
            speed = int(rng.integers(100 - change, 101 + change)) / 100
        if stretches is None:
            pieces, _ = string_together(speakers[name], length * speed, rng)
        else:
            pieces = _speak_in(stretches[number], speakers[name], speed, rng)
        room = rules.rooms[rng.integers(len(rules.rooms))].path if in_rooms else None
        equaliser = draw_equaliser(rules.tilt_db, rules.equaliser_db, rng)
        sources.append(SourcePlan(name, gain, tuple(pieces), speed, room, equaliser))
    noise, snr = (), None
    if rules.noises and _is_among(rules.noise_share, rng):
        noise, _ = string_together(rules.noises, length, rng)
        snr = round(float(rng.uniform(*rules.noise_snr_db)), 2)
    name = _name(index, sources)
    return MixturePlan(name, length, tuple(sources), tuple(noise), snr, stretches is not None)


def _is_among(share, rng):
    """Draw whether a mixture is among a share of them; nothing is drawn where that is all."""
    return share == 1 or rng.random() < share


def plan_mixtures(
    speakers: Speakers, count: int, num_spks: int, seconds: tuple[float, float] = (4.0, 8.0),
    seed: Seed = 0, **rules,
) -> list[MixturePlan]:
    """Draw plans by the rules of `MixingRules`; mixture i depends on the seed and on i alone.

    The seed is non-negative; a tuple keeps, for example, splits apart: (seed, split number).

    Example
    -------
    >>> speakers = {name: [Utterance(f"{name}/1.wav", 60.0, 8000)] for name in ("ann", "bob")}
    >>> plan, = plan_mixtures(speakers, count=1, num_spks=2, seed=1)
    >>> [source.gain_db for source in plan.sources]
    [0.3604, -0.3604]
    """
    rules = MixingRules(num_spks, seconds, **rules)
    return [draw_mixture(speakers, rules, mixture_rng(seed, index), index)
            for index in range(count)]


def plan_utterances(
    paths: Sequence[str], gains_db: Sequence[float], speakers: Sequence[str] | None = None
) -> MixturePlan:
    """Return the plan of one line of a list, named as in WSJ0-mix.

    Paths, gains in dB and speakers are those of the C sources. By default speakers are the names of
    the folders that the files lie in, as in WSJ0.

    Example
    -------
    >>> plan = plan_utterances(["ann/1.wav", "bob/2.wav"], [0.604314, -0.604314])
    >>> plan.name, plan.sources[0].speaker, plan.sources[0].pieces
    ('1_0.60431_2_-0.60431', 'ann', (Piece(path='ann/1.wav', start=0, frames=None, pause=0.0),))
    """
    speakers = [Path(path).parent.name for path in paths] if speakers is None else speakers
    sources, name = [], []
    for speaker, path, gain in zip(speakers, paths, gains_db):
        sources.append(SourcePlan(speaker, float(gain), (Piece(path),)))
        name += [Path(path).stem, gain_name(gain)]
    return MixturePlan(file_stem("_".join(name)), None, tuple(sources))


def draw_utterances(
    speakers: Speakers, count: int, num_spks: int, seed: Seed = 0
) -> list[MixturePlan]:
    """Draw mixtures of whole utterances, as lists hold them.

    Each mixture has different speakers, one utterance of each, and gains from `draw_gains`. No two
    have the same name. See `plan_mixtures` for the rest. UserError
    if there are too few speakers, or not as many different mixtures.

    Example
    -------
    >>> speakers = {name: [Utterance(f"{name}/{name}1.wav", 6.0, 8000)] for name in ("ann", "bob")}
    >>> [plan.name for plan in draw_utterances(speakers, count=2, num_spks=2)]
    ['ann1_0.67447_bob1_-0.67447', 'ann1_1.3928_bob1_-1.3928']
    """
    plans = {}
    for index in range(count):
        rng = mixture_rng(seed, index)
        for _ in range(DRAWS):
            chosen = draw_speakers(speakers, num_spks, rng)
            paths = [speakers[name][rng.integers(len(speakers[name]))].path for name in chosen]
            gains = draw_gains(num_spks, MixingRules.max_gain_db, rng)
            plan = plan_utterances(paths, gains, chosen)
            if plan.name not in plans:
                break
        else:
            raise UserError(f"{count} mixtures: there are not as many different ones of "
                            f"{len(speakers)} speaker(s); add speech, or ask for fewer")
        plans[plan.name] = plan
    return list(plans.values())


def mixture_rng(seed: Seed, index: int) -> np.random.Generator:
    """Return the source of randomness of one mixture."""
    return np.random.default_rng((*(seed if isinstance(seed, tuple) else (seed,)), index))


def draw_speakers(
    speakers: Speakers, num_spks: int, rng: np.random.Generator, shares: Sequence[float] = ()
) -> list[str]:
    """Draw the names of different speakers; UserError if there are too few.

    `shares` are the probabilities of the speakers, sorted by name, that the first of them is drawn
    (see `duration_shares`); by default all are alike.
    """
    if len(speakers) < num_spks:
        raise UserError(
            f"{len(speakers)} speaker(s): too few for mixtures of {num_spks}; "
            "add a folder for each further speaker"
        )
    if len(shares) and np.count_nonzero(shares) < num_spks:
        raise UserError(f"{np.count_nonzero(shares)} speaker(s) with a share: too few for mixtures "
                        f"of {num_spks}; lower duration_exponent, or add speech")
    names = sorted(speakers)
    chosen = rng.choice(len(names), num_spks, replace=False, p=shares if len(shares) else None)
    return [names[index] for index in chosen]


def duration_shares(speakers: Speakers, exponent: float) -> tuple[float, ...]:
    """Return shares of the speakers in proportion to their seconds of speech to a power.

    With an exponent of 0 all speakers are heard alike, and those with little speech say the same
    again and again. With 1 all seconds of speech are heard alike, and few speakers may say most of
    them. The shares are sorted by speaker and sum to 1. Multilingual models draw languages so (G.
    Lample and A. Conneau, "Cross-lingual Language Model Pretraining", NeurIPS 2019).

    Example
    -------
    >>> speakers = {"bob": [Utterance("b.wav", 4.0, 8000)], "ann": [Utterance("a.wav", 1.0, 8000)]}
    >>> [round(share, 3) for share in duration_shares(speakers, 0.5)]
    [0.333, 0.667]
    """
    seconds = [sum(utterance.seconds for utterance in speakers[name]) for name in sorted(speakers)]
    weights = np.array(seconds) ** exponent
    return tuple((weights / weights.sum()).tolist())


def draw_gains(num_spks: int, max_gain_db: float, rng: np.random.Generator) -> list[float]:
    """Draw gains in dB as WSJ0-mix has them: g, -g for 2 speakers; g, -g, 0 for 3.

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


def string_together(
    utterances: Sequence[Utterance], seconds: float, rng: np.random.Generator, speed: float = 1.0,
    at_most: bool = False,
) -> tuple[list[Piece], float]:
    """Draw pieces of one speaker, see `draw_mixture`; returns them and the seconds that are left.

    They last at least `seconds` at a speed, or, with `at_most`, hardly ever less and never more.

    Example
    -------
    >>> pieces, _ = string_together([Utterance("a.wav", 60.0, 8000)], 4, np.random.default_rng(0))
    >>> [piece.frames for piece in pieces]
    [32000]
    """
    durations = np.array([utterance.seconds for utterance in utterances])
    # Sampling without replacement in proportion to duration (Efraimidis and Spirakis, 2006).
    order = np.argsort(rng.exponential(size=len(durations)) / durations)
    pieces, remaining = [], seconds
    for index in cycle(order):
        if remaining <= 0:
            break
        utterance = utterances[index]
        pause = round(float(rng.uniform(*PAUSE_SECONDS)), 3) if pieces else 0.0
        wanted = remaining - pause
        if wanted < MIN_PIECE_SECONDS and not at_most:
            wanted = MIN_PIECE_SECONDS
        elif wanted < MIN_PIECE_SECONDS and pieces:
            break
        total = round(utterance.seconds * utterance.sample_rate)
        frames = min(total, int(np.ceil(wanted * speed * utterance.sample_rate)))
        start = int(rng.integers(total - frames + 1))
        pieces.append(Piece(utterance.path, start, frames, pause))
        remaining -= pause + frames / utterance.sample_rate / speed
    return pieces, remaining


def _speak_in(
    stretches: Sequence[Stretch], utterances: Sequence[Utterance], speed: float,
    rng: np.random.Generator,
) -> list[Piece]:
    """Draw what one speaker says in stretches of a mixture."""
    pieces, end = [], 0.0  # of the pieces so far, in seconds of the mixture
    for start, seconds in stretches:
        (first, *others), left = string_together(utterances, seconds, rng, speed, at_most=True)
        pieces += [replace(first, pause=round(max(0.0, start - end), 6)), *others]
        end = start + seconds - left
    return pieces


def _name(index: int, sources: Sequence[SourcePlan]) -> str:
    """Name a mixture by its number, speakers and gains, after WSJ0-mix; safe as a file name."""
    parts = [f"{index:06d}"]
    for source in sources:
        # WSJ0-mix names a source by its file; here that may be several, so by its speaker.
        parts += [re.sub(r"[^\w.-]+", "-", source.speaker)[:24], gain_name(source.gain_db)]
    return file_stem("_".join(parts))


def file_stem(name: str) -> str:
    """Make a name that is safe as the stem of a file: without folders, and not too long.

    Example
    -------
    >>> file_stem("a/b_1_c_-1"), len(file_stem(100 * "speaker_"))
    ('a_b_1_c_-1', 240)
    """
    name = re.sub(r"[/\\\0]", "_", name)
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    digest = f"_{zlib.crc32(encoded):08x}"
    return encoded[: MAX_NAME_BYTES - len(digest)].decode(errors="ignore") + digest


def gain_name(gain_db: float) -> str:
    """Return a gain as WSJ0-mix's file names have it.

    Example
    -------
    >>> [gain_name(gain) for gain in (0.604312, -1.2, -0.0)]
    ['0.60431', '-1.2', '0']
    """
    return f"{gain_db + 0.0:.5g}"  # the sum makes -0 a 0
