"""Voices of a recording's speakers, and the order of a separator's outputs that fits them.

Needs numpy only.
"""

import base64
import itertools
from dataclasses import dataclass, replace

import numpy as np

FRAME, BLOCK = 0.032, 4  # seconds of a frame; frames in a block
MEL_BANDS, CEPSTRA, VOICE_DIMENSIONS = 20, 18, 16
SPEECH_DB = 20.0  # frames this far below the loud ones tell nothing of a voice
CLEAN_DB = 3.0  # an output tells of a voice in full where it is alone, not at all at this share
PAUSE_DB = 30.0  # blocks this far below the loud ones are pauses, where a change costs least
SWITCH_COST = 10.0  # of a change of the permutation where one speaks
OVERLAP_COST = 100.0  # in addition where several do: the separator hardly confuses them then
AGREEMENT = 20.0  # of a block with itself
VOICE = 0.12  # of a frame with a squared distance of one
SMOOTHING = 5  # blocks on either side that a voice print takes in
SWITCH_FADE = 0.016  # seconds
HISTORY, HISTORY_BLOCK = 600, 8  # blocks of about a second; BLOCKs in one of them
LEARN_EVERY = 5.0  # seconds of speech
RANDOM_STARTS, ITERATIONS = 3, 4
PRIOR = 60.0  # frames
MOST_SPEAKERS = 5  # whose permutations are all tried
TINY = 1e-12
# Linear discriminant analysis of `benchmarks/voice_projection.py`, as float16.
PROJECTION = np.frombuffer(base64.b64decode(
    "9KzbNjC0tipItF0wqqgIL82rPCsMnDateyq/KAcrpqxUssQvrC6ZtV2oXak4oQWZci8/LMAwSq2mMJkxnCfrlIK2/DNZ"
    "sWM0s6s6uDg3ba63sGq0FR/SqoCszbTErgyoELVjLvE2gbqFrOu2dDDcMh+tALBqp3q0BS4msQW076xWtlM5bjYVIJwt"
    "4SzPM7MwqTlkrLe2SS2SubEuxyZ/qnC2iDZMtDK6ryWirtu6QbmNNNstvDXmN1uzTbGBNSK0zbbFNgs4WjYqNhE0l6/4"
    "vJuX6bBAtW246Ti2KDctybFCuNe4Aq2wLLq19LRtu+Gp27CyvDW5/baUs/k2nCqEN0ospTagO20wazj+jbSywjoCvai1"
    "9LUEPJowRjBCOdQuYrost0snojLiMgU4cbnxObU4uzvauDk5jza1vOa5zLULtMOqIbSnMJozZTI5GJ247LvkPcU3GLxe"
    "vT80kroNOmWwFrRusMmsHDTsOiM3fzelNYK87T31uxYxMrZKPhg8/7WotBq4dy3YNT8yfCwwLs61mrUauoU0CrTaN7A7"
    "lL8luO+otRQ2uNO1nj3xJ4+1q7ryu/so3TzCr1U6KcHCuUq8RrOrta20tTbaLrY6FrUpuR4/Z74guQ82d7XyPac8ZLqR"
    "pSOz0rfCtCw+BabAtIq1HreCOXE4wrUyvgQ2vj7auBmzx7j8taIuLDeeOv+kgrhLt7W4IjVAsfg9mzfUvCG5ZKp+LRC3"
    "vLY3Ok2vSLoTtjCxhLqNNdK1wDbPtl89SZ37NPeyWjJyMO6vfjCyr14xHzDkMcSz/y9DMQ40ArODMRs0ELNsLrk0Fy62"
    "sQ+nfqvcLeGRbzIUrBMv2rNmoHu23LQNti00+TiVtokyTbFjMB2jCDRoNnkrSyywq0Qz06/UNFOwqZyKNPglZylyq+sx"
    "XSghNJ42/zVAMwG09DL7r04u6rB8sek1PyAXKRYtYDSnLQ+lG6SpNaQzX6yFMYaodTGescusTjXbrKolE6n2MROhJTLK"
    "NHkvYzYrs4IkHbTrpjS1T6wZNluv8B3SM5Y1wyhaLWGtVzTHN9OmGzKgsdku7LFSrUc0vK9nrK0qPC61rQQnNawCMo81"
    "nLCkMeSz3Ctgq6Eq0jNsr4Op3DInrUkp/6yNLgEvwzBus2o0VbDKIm2wuCIKMZekXKBiLqssfq7xsVus7CuuMu2uC57z"
    "qqkqcqa9rtIwBbDDq60yA7Hisrep2a/MswCwrrBioACjki0prOexdDF9sNStPDI9G4awIalrsPW0V7MjMmW37qoLNHAk"
    "p7S8LuuiC65MI3En1aoVtDW0yiZitl0wO6XdKXg1qax5tMQsYC+mGIStvaMJsKq4NbAQrP+33q7eG9ItUDUSJJ+w9DNA"
    "rMCzk7A0riqxu7O0n5Edw7bsLW01uyklM5Utzaz+M+wx0bTbLJ6pFK7osCGwfbJdqRqssS63MOEwWC5FJG40nY91sLqx"
    "QLBYshqwTbWUstmxz6PDrTcyZzXBLPqvIjAkMpK1vrLetVC1bKYosbmgrK8IsWAw"
), dtype="<f2").reshape(2 * CEPSTRA, VOICE_DIMENSIONS).astype(np.float64)


class Voices:
    """Order of each window's outputs, by agreement with what came before and by voice.

    The outputs of a window are cut into blocks of 0.13 s. A path through the blocks gives each one
    a permutation of the outputs. The best path has the largest sum of

    - the agreement with the estimates of the last window where both overlap,
    - the distance of each output's voice print from the mean print of the speaker,
      where the output is loud and louder than the others,
    - a cost for each change of the permutation, which is low in pauses.

    The speakers may therefore change outputs between two turns in one window. The means are
    learned from the last ten minutes of speech, which are kept as sufficient statistics of blocks
    of a second. As windows are added, these blocks are assigned to speakers again (by expectation
    maximisation with hard assignments, also from random starts), so that an early mistake does not
    stay in the means. Silent blocks are not kept: a voice is still known after a long pause.

    There are too many permutations of more than five speakers. Their outputs are ordered by
    agreement alone, the speaker that agrees most first.

    Arguments
    ---------
    num_speakers : int
        C.
    sample_rate : int
        In Hz.
    """

    def __init__(self, num_speakers: int, sample_rate: int):
        speakers = range(num_speakers)
        few = num_speakers <= MOST_SPEAKERS
        self.orders = np.array(list(itertools.permutations(speakers)) if few else [speakers])
        self.frame = round(FRAME * sample_rate)
        self.block = BLOCK * self.frame
        self.fade = round(SWITCH_FADE * sample_rate)
        self._window = np.hanning(self.frame).astype(np.float32)
        self._filters = mel_filters(sample_rate, self.frame)
        index = np.arange(MEL_BANDS)[:, None] + 0.5
        self._cosines = np.cos(np.pi / MEL_BANDS * index * np.arange(1, CEPSTRA + 1))
        self._cosines *= np.sqrt(2 / MEL_BANDS)
        self.reset()

    def reset(self) -> None:
        """Forget the voices, for a new signal."""
        speakers = self.orders.shape[1]
        self._history = Statistics.empty(speakers)  # blocks of a second, as they were returned
        self._labels = np.zeros(0, dtype=int)  # their permutations since they were assigned again
        self._recent = Statistics.empty(speakers)  # blocks that do not fill a second yet
        self._unlearned = 0.0  # seconds of speech since the voices were learned
        self._voices = None
        self._random = np.random.default_rng(0)

    def in_order(self, estimates: np.ndarray, known: np.ndarray, end: int) -> np.ndarray:
        """Bring the outputs of a window into the speakers' order.

        Arguments
        ---------
        estimates : numpy.ndarray
            [C, T].
        known : numpy.ndarray
            [C, overlap]: the estimates of the first samples of the window, in order.
        end : int
            Samples of the signal up to the end of the window; not used.

        Returns
        -------
        numpy.ndarray
            [C, T].
        """
        if len(estimates) > MOST_SPEAKERS:
            return estimates[greedy_order(known, estimates[:, :known.shape[1]])]
        if estimates.shape[1] < self.block or len(estimates) == 1:
            return estimates
        blocks = self.analyse(estimates)
        agreement = self._agreement(estimates, known)
        fresh = -(-known.shape[1] // self.block)  # the first block that was in no window before
        path = self._best_path(blocks, agreement)
        self._remember(blocks.ordered(self.orders[path]).part(fresh))
        if self._unlearned >= LEARN_EVERY:
            self._learn()
            path = self._best_path(blocks, agreement)
        return self._apply(estimates, path)

    def analyse(self, estimates: np.ndarray) -> "Statistics":
        """Statistics of the whole blocks of each output [C, T]."""
        count = estimates.shape[1] // self.block
        frames = estimates[:, :count * self.block].reshape(len(estimates), -1, self.frame)
        power = np.square(np.abs(np.fft.rfft(frames * self._window, axis=-1)))
        energy = power.sum(axis=-1)  # [C, frames]
        level = energy.sum(axis=0)  # [frames]
        loud = max(np.percentile(level, 95), self._history.level.max(initial=0.0), TINY)
        cepstra = np.log(power @ self._filters + 1e-9 * loud) @ self._cosines
        decibels = 10 * np.log10(energy / loud + TINY)
        margin = 10 * np.log10((energy + TINY * loud) / (level + TINY * loud))  # 0 dB: alone
        weight = (decibels > -SPEECH_DB) * np.clip(1 + margin / CLEAN_DB, 0, 1)
        weighted = weight[..., None] * cepstra

        def blocks(values):  # [C, frames, ...] -> [blocks, C, BLOCK, ...]
            return np.moveaxis(
                values.reshape(len(values), count, BLOCK, *values.shape[2:]), 1, 0
            )

        quietest = np.sort(blocks(energy).min(axis=2), axis=1)[:, ::-1]  # loudest output first
        above = (10 * np.log10(quietest / loud + TINY) + PAUSE_DB) / (PAUSE_DB - 10)
        cost = SWITCH_COST * np.clip(above[:, 0], 0.25, 1)
        cost += OVERLAP_COST * np.clip(above[:, 1], 0, 1)
        return Statistics(
            weight=blocks(weight).sum(axis=2),
            first=blocks(weighted).sum(axis=2),
            second=blocks(weighted * cepstra).sum(axis=2),
            cost=cost,
            level=blocks(level[None])[:, 0].mean(axis=1),
        )

    def _agreement(self, estimates, known):
        """Agreement [blocks, P] of each permutation with the known estimates."""
        agreement = np.zeros((estimates.shape[1] // self.block, len(self.orders)))
        count = known.shape[1] // self.block
        if not count:
            return agreement

        def blocks(signals):  # [blocks, C, samples]
            cut = signals[:, :count * self.block].reshape(len(signals), count, self.block)
            return cut.swapaxes(0, 1).astype(np.float64)

        before, now = blocks(known), blocks(estimates)
        products = before @ now.swapaxes(1, 2)  # [blocks, speaker, output]
        energies = [np.square(signals).sum(axis=(1, 2)) for signals in (before, now)]
        scale = np.sqrt(energies[0] * energies[1])
        scale += max(10 ** (-PAUSE_DB / 10) * scale.max(), TINY)
        speakers = np.arange(self.orders.shape[1])
        agreement[:count] = products[:, speakers, self.orders].sum(axis=2) / scale[:, None]
        return AGREEMENT * agreement

    def _best_path(self, blocks, agreement):
        """Permutation of each block."""
        scores = agreement
        if self._voices is not None:
            scores = scores + self._voice_scores(
                voice_prints(blocks, SMOOTHING), blocks.weight, self._voices
            )
        return best_path(scores, blocks.cost)[0]

    def _voice_scores(self, prints, weight, voices):
        """Fit [blocks, P] of each permutation of voice prints to the voices."""
        distance = np.square(prints[:, None] - voices[:, None]).sum(axis=-1)
        fit = -VOICE * weight[:, None] * distance  # [blocks, speaker, output]
        speakers = np.arange(self.orders.shape[1])
        return fit[:, speakers, self.orders].sum(axis=2)

    def _remember(self, blocks):
        """Add blocks in the speakers' order to the history."""
        recent = self._recent.joined(blocks)
        whole = len(recent.weight) // HISTORY_BLOCK
        seconds = recent.part(0, whole * HISTORY_BLOCK).merged(HISTORY_BLOCK)
        self._recent = recent.part(whole * HISTORY_BLOCK)
        spoken = seconds.chosen(seconds.weight.sum(axis=1) > 0)
        added = len(spoken.weight)
        self._unlearned += spoken.weight.sum() * FRAME
        self._history = self._history.joined(spoken).part(-HISTORY)
        self._labels = np.concatenate([self._labels, np.zeros(added, dtype=int)])[-HISTORY:]

    def _learn(self):
        """Assign the blocks of the history to speakers again, and learn the voices."""
        self._unlearned = 0.0
        prints = voice_prints(self._history)
        starts = [self._means(prints, self._labels)]
        spoken = np.argwhere(self._history.weight > 0.5 * self._history.weight.max())
        for _ in range(RANDOM_STARTS):
            chosen = spoken[self._random.choice(len(spoken), self.orders.shape[1])]
            starts.append(prints[chosen[:, 0], chosen[:, 1]])
        results = [self._assign(prints, voices) for voices in starts]
        labels, _ = max(results, key=lambda result: result[1])
        # the clusters have no names: name them after the speakers that they were before
        cells = np.arange(len(labels))[:, None]
        before, after = self.orders[self._labels], self.orders[labels]
        weight = self._history.weight
        shared = np.array([
            [(weight[cells[:, 0], before[:, speaker]] * (before[:, speaker] == column)).sum()
             for column in after.T] for speaker in range(before.shape[1])
        ])
        speakers = np.arange(before.shape[1])
        names = self.orders[np.argmax(shared[speakers, self.orders].sum(axis=1))]
        named = after[:, names]
        self._labels = (named[:, None] == self.orders).all(axis=2).argmax(axis=1)
        self._voices = self._means(prints, self._labels)

    def _assign(self, prints, voices):
        """Permutations of the history's blocks from some voices on, and their score."""
        labels = None
        for _ in range(ITERATIONS):
            scores = self._voice_scores(prints, self._history.weight, voices)
            before, (labels, score) = labels, best_path(scores, self._history.cost)
            if before is not None and np.array_equal(labels, before):
                break
            voices = self._means(prints, labels)
        return labels, score

    def _means(self, prints, labels):
        """Mean voice print [C, VOICE_DIMENSIONS] of each speaker, given permutations."""
        blocks, orders = np.arange(len(labels))[:, None], self.orders[labels]
        weight = self._history.weight[blocks, orders][..., None]
        total = (weight * prints[blocks, orders]).sum(axis=0)
        common = total.sum(axis=0) / max(weight.sum(), TINY)
        return (total + PRIOR * common) / (weight.sum(axis=0) + PRIOR)

    def _apply(self, estimates, path):
        """The outputs in the order of a path, with a short fade at each change."""
        ordered = estimates[self.orders[path[-1]]]
        for block in np.flatnonzero(np.diff(path))[::-1]:
            middle = (block + 1) * self.block
            before = estimates[self.orders[path[block]]]
            ordered[:, :middle - self.fade // 2] = before[:, :middle - self.fade // 2]
            fading = slice(middle - self.fade // 2, middle - self.fade // 2 + self.fade)
            ramp = (np.arange(self.fade, dtype=np.float32) + 0.5) / max(self.fade, 1)
            ramp = ramp[:ordered[:, fading].shape[1]]
            ordered[:, fading] = before[:, fading] + ramp * (
                ordered[:, fading] - before[:, fading]
            )
        return ordered


@dataclass
class Statistics:
    """What is known of the cepstra of each output (or speaker) in each block.

    Arguments
    ---------
    weight : numpy.ndarray
        [blocks, C], frames in which the output is loud and louder than the others.
    first, second : numpy.ndarray
        [blocks, C, D], weighted sums of the cepstra and of their squares.
    cost : numpy.ndarray
        [blocks], of a change of the permutation before the block.
    level : numpy.ndarray
        [blocks], mean energy of a frame.
    """

    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray
    cost: np.ndarray
    level: np.ndarray

    @classmethod
    def empty(cls, speakers: int) -> "Statistics":
        """No blocks."""
        return cls(np.zeros((0, speakers)), np.zeros((0, speakers, CEPSTRA)),
                   np.zeros((0, speakers, CEPSTRA)), np.zeros(0), np.zeros(0))

    def _map(self, function):
        return Statistics(*(function(values) for values in vars(self).values()))

    def part(self, begin: int, end: int | None = None) -> "Statistics":
        """Blocks from `begin` to `end`."""
        return self._map(lambda values: values[begin:end])

    def chosen(self, which: np.ndarray) -> "Statistics":
        """The blocks of a mask."""
        return self._map(lambda values: values[which])

    def joined(self, other: "Statistics") -> "Statistics":
        """These blocks and the others."""
        return Statistics(*(np.concatenate(pair) for pair in
                            zip(vars(self).values(), vars(other).values())))

    def ordered(self, orders: np.ndarray) -> "Statistics":
        """Outputs in the order [blocks, C] of each block."""
        cells = np.arange(len(orders))[:, None]
        return replace(self, weight=self.weight[cells, orders], first=self.first[cells, orders],
                       second=self.second[cells, orders])

    def merged(self, count: int) -> "Statistics":
        """Each `count` blocks as one."""
        grouped = self._map(lambda values: values.reshape(-1, count, *values.shape[1:]))
        return Statistics(grouped.weight.sum(axis=1), grouped.first.sum(axis=1),
                          grouped.second.sum(axis=1), grouped.cost.min(axis=1),
                          grouped.level.mean(axis=1))


def voice_prints(
    blocks: Statistics, smoothing: int = 0, projection: np.ndarray = PROJECTION,
) -> np.ndarray:
    """Voice prints [blocks, C, VOICE_DIMENSIONS]: within a speaker their covariance is one.

    They are projections of the mean and the log variance of mel cepstra, taken over each block and
    `smoothing` blocks on either side.
    """
    def around(values):
        sums = np.cumsum(np.pad(values, [(1, 0)] + [(0, 0)] * (values.ndim - 1)), axis=0)
        index = np.arange(len(values))
        ends = np.minimum(index + smoothing + 1, len(values))
        return sums[ends] - sums[np.maximum(index - smoothing, 0)]

    weight = np.maximum(around(blocks.weight), TINY)[..., None]
    mean = around(blocks.first) / weight
    variance = np.maximum(around(blocks.second) / weight - np.square(mean), 0)
    return np.concatenate([mean, np.log(variance + 0.01)], axis=-1) @ projection


def greedy_order(known: np.ndarray, estimates: np.ndarray) -> list[int]:
    """The output of each speaker: pairs with the largest product first.

    Arguments
    ---------
    known, estimates : numpy.ndarray
        [C, T].

    Returns
    -------
    list of int

    Example
    -------
    >>> greedy_order(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.2, 3.0], [1.0, 0.0]]))
    [1, 0]
    """
    products = known.astype(np.float64) @ estimates.T.astype(np.float64)
    order = [0] * len(products)
    for _ in order:
        speaker, output = np.unravel_index(np.argmax(products), products.shape)
        order[speaker] = int(output)
        products[speaker, :] = products[:, output] = -np.inf
    return order


def best_path(scores: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, float]:
    """Path with the largest sum of scores, less the costs of changes (Viterbi).

    Arguments
    ---------
    scores : numpy.ndarray
        [T, P].
    costs : numpy.ndarray
        [T], of a change before each step.

    Returns
    -------
    path : numpy.ndarray
        [T], the state at each step.
    total : float
        Its score.

    Example
    -------
    >>> scores = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 9.0]])
    >>> best_path(scores, np.array([5.0, 5.0, 5.0]))[0].tolist()
    [1, 1, 1]
    >>> best_path(scores, np.array([5.0, 5.0, 0.5]))[0].tolist()
    [0, 0, 1]
    """
    rows, costs = scores.tolist(), costs.tolist()  # lists: faster than arrays of so few states
    total, origins = rows[0], []
    for row, cost in zip(rows[1:], costs[1:]):
        best = max(total)
        origin = total.index(best)
        changed = best - cost
        origins.append([state if value >= changed else origin
                        for state, value in enumerate(total)])
        total = [max(value, changed) + gain for value, gain in zip(total, row)]
    best = max(total)
    path = [total.index(best)]
    for states in reversed(origins):
        path.append(states[path[-1]])
    return np.array(path[::-1]), best


def mel_filters(sample_rate: int, size: int) -> np.ndarray:
    """Triangular mel filters [size // 2 + 1, MEL_BANDS] from 60 Hz to half the sampling rate."""
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = 700 * (10 ** (np.linspace(mel(60), mel(sample_rate / 2), MEL_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
