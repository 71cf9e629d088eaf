"""Voices of a recording's speakers, and the order of a separator's outputs that fits them.

Needs numpy only.
"""

import itertools
from pathlib import Path

import numpy as np

FRAME, BLOCK = 0.032, 4  # seconds of a frame; frames in a block
MEL_BANDS, CEPSTRA, VOICE_DIMENSIONS = 20, 18, 16
SPEECH_DB = 20.0  # frames this far below the loud ones tell nothing of a voice
CLEAN_DB = 6.0  # an output tells of a voice in full where it is alone, not at all at this share
PAUSE_DB = 30.0  # blocks this far below the loud ones are pauses, where a change costs least
SWITCH_COST = 10.0  # of a change of the permutation where one speaks
OVERLAP_COST = 100.0  # in addition where several do: the separator hardly confuses them then
AGREEMENT = 20.0  # of a block with itself
VOICE = 0.12  # of a frame with a squared distance of one
SMOOTHING = 10  # blocks on either side that a voice print takes in
SWITCH_FADE = 0.016  # seconds
HISTORY, HISTORY_BLOCK = 600, 8  # blocks of about a second; BLOCKs in one of them
LEARN_EVERY = 5.0  # seconds of speech
RANDOM_STARTS, ITERATIONS = 3, 4
PRIOR = 60.0  # frames
MOST_SPEAKERS = 5  # whose permutations are all tried
TINY = 1e-12
# Linear discriminant analysis of `benchmarks/voice_projection.py`, [2 * CEPSTRA, VOICE_DIMENSIONS]
PROJECTION = np.load(Path(__file__).with_name("voices.npy")).astype(np.float64)


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
        self._fade_in = fade_in(round(SWITCH_FADE * sample_rate))
        self._window = np.hanning(self.frame).astype(np.float32)
        self._filters = mel_filters(sample_rate, self.frame)
        index = np.arange(MEL_BANDS)[:, None] + 0.5
        self._cosines = np.cos(np.pi / MEL_BANDS * index * np.arange(1, CEPSTRA + 1))
        self._cosines *= np.sqrt(2 / MEL_BANDS)
        self.reset()

    def reset(self) -> None:
        """Forget the voices, for a new signal."""
        none = np.zeros(0, block_type(self.orders.shape[1]))
        self._history = none  # blocks of a second, as they were returned
        self._labels = np.zeros(0, dtype=int)  # their permutations since they were assigned again
        self._recent = none  # blocks that do not fill a second yet
        self._unlearned = 0.0  # seconds of speech since the voices were learned
        self._voices = None
        self._random = np.random.default_rng(0)

    def in_order(self, estimates: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Bring the outputs [C, T] of a window into the speakers' order.

        `known`, [C, overlap], are the estimates of its first samples, in order.
        """
        if len(estimates) > MOST_SPEAKERS:
            return estimates[greedy_order(known, estimates[:, :known.shape[1]])]
        if estimates.shape[1] < self.block or len(estimates) == 1:
            return estimates
        blocks = self.analyse(estimates)
        agreement = self._agreement(estimates, known)
        fresh = -(-known.shape[1] // self.block)  # the first block that was in no window before
        path = self._best_path(blocks, agreement)
        self._remember(reorder(blocks, self.orders[path])[fresh:])
        if self._unlearned >= LEARN_EVERY:
            self._learn()
            path = self._best_path(blocks, agreement)
        return self._apply(estimates, path)

    def analyse(self, estimates: np.ndarray) -> np.ndarray:
        """The blocks, of `block_type`, that outputs [C, T] fill."""
        count = estimates.shape[1] // self.block
        frames = estimates[:, :count * self.block].reshape(len(estimates), -1, self.frame)
        power = np.square(np.abs(np.fft.rfft(frames * self._window, axis=-1)))
        energy = power.sum(axis=-1)  # [C, frames]
        level = energy.sum(axis=0)  # [frames]
        loud = max(np.percentile(level, 95), self._history["level"].max(initial=0.0), TINY)
        cepstra = np.log(power @ self._filters + 1e-9 * loud) @ self._cosines
        decibels = 10 * np.log10(energy / loud + TINY)
        margin = 10 * np.log10((energy + TINY * loud) / (level + TINY * loud))  # 0 dB: alone
        weight = (decibels > -SPEECH_DB) * np.clip(1 + margin / CLEAN_DB, 0, 1)
        weighted = weight[..., None] * cepstra

        blocks = np.empty(count, block_type(len(estimates)))
        blocks["weight"] = _cut(weight, BLOCK).sum(axis=2)
        blocks["first"] = _cut(weighted, BLOCK).sum(axis=2)
        blocks["second"] = _cut(weighted * cepstra, BLOCK).sum(axis=2)
        quietest = np.sort(_cut(energy, BLOCK).min(axis=2), axis=1)[:, ::-1]  # loudest output first
        above = (10 * np.log10(quietest / loud + TINY) + PAUSE_DB) / (PAUSE_DB - 10)
        blocks["cost"] = SWITCH_COST * np.clip(above[:, 0], 0.25, 1)
        blocks["cost"] += OVERLAP_COST * np.clip(above[:, 1], 0, 1)
        blocks["level"] = level.reshape(count, BLOCK).mean(axis=1)
        return blocks

    def _agreement(self, estimates, known):
        """Agreement [blocks, P] of each permutation with the known estimates."""
        agreement = np.zeros((estimates.shape[1] // self.block, len(self.orders)))
        count = known.shape[1] // self.block
        if not count:
            return agreement
        before, now = (
            _cut(signals[:, :count * self.block].astype(np.float64), self.block)
            for signals in (known, estimates)
        )
        products = before @ now.swapaxes(1, 2)  # [blocks, speaker, output]
        energies = [np.square(signals).sum(axis=(1, 2)) for signals in (before, now)]
        scale = np.sqrt(energies[0] * energies[1])
        scale += max(10 ** (-PAUSE_DB / 10) * scale.max(), TINY)
        agreement[:count] = self._of_orders(products) / scale[:, None]
        return AGREEMENT * agreement

    def _best_path(self, blocks, agreement):
        """Permutation of each block."""
        if self._voices is not None:
            prints = voice_prints(blocks, SMOOTHING)
            agreement = agreement + self._voice_scores(prints, blocks["weight"], self._voices)
        return best_path(agreement, blocks["cost"])[0]

    def _voice_scores(self, prints, weight, voices):
        """Fit [blocks, P] of each permutation of voice prints to the voices."""
        distance = np.square(prints[:, None] - voices[:, None]).sum(axis=-1)
        return self._of_orders(-VOICE * weight[:, None] * distance)

    def _of_orders(self, fit):
        """Scores [..., P] of all permutations, of a score for each [..., speaker, output]."""
        return fit[..., np.arange(self.orders.shape[1]), self.orders].sum(axis=-1)

    def _remember(self, blocks):
        """Add blocks in the speakers' order to the history."""
        recent = np.concatenate([self._recent, blocks])
        seconds = merge(recent, HISTORY_BLOCK)
        self._recent = recent[len(seconds) * HISTORY_BLOCK:].copy()
        spoken = seconds[seconds["weight"].sum(axis=1) > 0]
        self._unlearned += spoken["weight"].sum() * FRAME
        self._history = np.concatenate([self._history, spoken])[-HISTORY:]
        self._labels = np.append(self._labels, np.zeros(len(spoken), dtype=int))[-HISTORY:]

    def _learn(self):
        """Assign the blocks of the history to speakers again, and learn the voices."""
        self._unlearned = 0.0
        prints = voice_prints(self._history)
        starts = [self._means(prints, self._labels)]
        weight = self._history["weight"]
        spoken = np.argwhere(weight > 0.5 * weight.max())
        for _ in range(RANDOM_STARTS):
            chosen = spoken[self._random.choice(len(spoken), self.orders.shape[1])]
            starts.append(prints[chosen[:, 0], chosen[:, 1]])
        results = [self._assign(prints, voices) for voices in starts]
        labels, _ = max(results, key=lambda result: result[1])
        # the clusters have no names: name them after the speakers that they were before
        before, after = self.orders[self._labels], self.orders[labels]
        same = before[:, :, None] == after[:, None]  # [blocks, speaker, cluster]
        shared = (np.take_along_axis(weight, before, axis=1)[:, :, None] * same).sum(axis=0)
        named = after[:, self.orders[np.argmax(self._of_orders(shared))]]
        self._labels = (named[:, None] == self.orders).all(axis=2).argmax(axis=1)
        self._voices = self._means(prints, self._labels)

    def _assign(self, prints, voices):
        """Permutations of the history's blocks from some voices on, and their score."""
        labels = None
        for _ in range(ITERATIONS):
            scores = self._voice_scores(prints, self._history["weight"], voices)
            before, (labels, score) = labels, best_path(scores, self._history["cost"])
            if before is not None and np.array_equal(labels, before):
                break
            voices = self._means(prints, labels)
        return labels, score

    def _means(self, prints, labels):
        """Mean voice print [C, VOICE_DIMENSIONS] of each speaker, given permutations."""
        blocks, orders = np.arange(len(labels))[:, None], self.orders[labels]
        weight = self._history["weight"][blocks, orders][..., None]
        total = (weight * prints[blocks, orders]).sum(axis=0)
        common = total.sum(axis=0) / max(weight.sum(), TINY)
        return (total + PRIOR * common) / (weight.sum(axis=0) + PRIOR)

    def _apply(self, estimates, path):
        """The outputs in the order of a path, with a short fade at each change."""
        ordered = estimates[self.orders[path[-1]]]
        for block in np.flatnonzero(np.diff(path))[::-1]:
            before = estimates[self.orders[path[block]]]
            begin = (block + 1) * self.block - self._fade_in.size // 2
            ordered[:, :begin] = before[:, :begin]
            fading = slice(begin, begin + self._fade_in.size)
            ordered[:, fading] = before[:, fading] + self._fade_in * (
                ordered[:, fading] - before[:, fading]
            )
        return ordered


def block_type(speakers: int) -> np.dtype:
    """What is known of the outputs (or speakers) in a block, as a type of records.

    weight : [C], frames in which the output is loud and louder than the others.
    first, second : [C, CEPSTRA], weighted sums of the cepstra and of their squares.
    cost : of a change of the permutation before the block.
    level : mean energy of a frame.
    """
    sums = (speakers, CEPSTRA)
    return np.dtype([("weight", float, (speakers,)), ("first", float, sums),
                     ("second", float, sums), ("cost", float), ("level", float)])


def _cut(values, size):
    """[C, blocks * size, ...] to [blocks, C, size, ...]."""
    return values.reshape(len(values), -1, size, *values.shape[2:]).swapaxes(0, 1)


def reorder(blocks: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Blocks with their outputs in the order [blocks, C] of each."""
    reordered, cells = blocks.copy(), np.arange(len(blocks))[:, None]
    for name in ("weight", "first", "second"):
        reordered[name] = blocks[name][cells, orders]
    return reordered


def merge(blocks: np.ndarray, count: int) -> np.ndarray:
    """Each `count` blocks as one. Those at the end that fill none are left out."""
    groups = blocks[:len(blocks) // count * count].reshape(-1, count)
    merged = np.empty(len(groups), blocks.dtype)
    for name in ("weight", "first", "second"):
        merged[name] = groups[name].sum(axis=1)
    merged["cost"] = groups["cost"].min(axis=1)
    merged["level"] = groups["level"].mean(axis=1)
    return merged


def voice_prints(
    blocks: np.ndarray, smoothing: int = 0, projection: np.ndarray = PROJECTION,
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

    weight = np.maximum(around(blocks["weight"]), TINY)[..., None]
    mean = around(blocks["first"]) / weight
    variance = np.maximum(around(blocks["second"]) / weight - np.square(mean), 0)
    return np.concatenate([mean, np.log(variance + 0.01)], axis=-1) @ projection


def greedy_order(known: np.ndarray, estimates: np.ndarray) -> list[int]:
    """The output of each speaker, by signals [C, T]: pairs with the largest product first.

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
    """Path with the largest sum of scores [T, P], less the costs of changes (Viterbi).

    The costs [T] are of a change before each step. Returns the state [T] at each step, and the
    path's total.

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


def fade_in(samples: int) -> np.ndarray:
    """A linear fade of so many samples, float32."""
    return (np.arange(samples, dtype=np.float32) + 0.5) / max(samples, 1)


def mel_filters(sample_rate: int, size: int) -> np.ndarray:
    """Triangular mel filters [size // 2 + 1, MEL_BANDS] from 60 Hz to half the sampling rate."""
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = 700 * (10 ** (np.linspace(mel(60), mel(sample_rate / 2), MEL_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
