"""Separation in windows: any split gives the same, exact length, speakers keep their output."""

import copy
import pickle

import numpy as np
import pytest

from papez_lobes.inference import voices as module
from papez_lobes.inference.voices import Voices, best_path
from papez_lobes.inference.windows import WindowedSeparation

RATE = 8000
SHAPES = [
    (800, 600, {}),
    (1000, 25, {"look_ahead": 8, "fade": 50, "first": 100}),
    (10, 3, {"look_ahead": 0, "fade": 0}),
]


def split(mixtures):
    """Both outputs are parts of the mixture."""
    return np.stack([mixtures * 0.3, mixtures * 0.7], axis=-1)


def run(windows, signal, piece):
    pieces = [windows.feed(signal[at:at + piece]) for at in range(0, len(signal), piece)]
    return np.concatenate([*pieces, windows.flush()], axis=1)


class Speakers:
    """Two voices and a separator that knows them, but not which output is whose.

    The voices are noise with formants of their own, in syllables. The separator finds a window's
    place by its samples, which faint noise makes unique.
    """

    def __init__(self, activity, swap_within=False, seed=0):
        self.rng = np.random.default_rng(seed)
        self.sources = np.stack([
            self.voice(len(activity[0]), formants) for formants in ((500, 1500), (900, 2600))
        ]) * activity
        self.mixture = self.sources.sum(axis=0).astype(np.float32)
        self.mixture += 1e-5 * self.rng.standard_normal(len(self.mixture)).astype(np.float32)
        self.swap_within = swap_within

    def voice(self, size, formants):
        spectrum = np.fft.rfft(self.rng.standard_normal(size))
        frequencies = np.fft.rfftfreq(size, 1 / RATE)
        gains = sum(np.exp(-0.5 * ((frequencies - formant) / 200) ** 2) for formant in formants)
        syllables = 0.2 + np.abs(np.sin(np.arange(size) * 2 * np.pi / (0.4 * RATE)))
        return 0.1 * np.fft.irfft(spectrum * (gains + 0.01), size) * syllables

    def separate(self, mixtures):
        [mixture] = mixtures
        starts = np.flatnonzero(self.mixture == mixture[0])
        start = next(at for at in starts
                     if np.array_equal(self.mixture[at:at + len(mixture)], mixture))
        estimates = self.sources[:, start:start + len(mixture)].astype(np.float32)
        estimates = estimates + 0.02 * estimates[::-1]
        if self.swap_within:  # at each of the turns
            turns = np.arange(start, start + len(mixture)) // (4 * RATE)
            swapped = self.rng.integers(0, 2, turns.max() + 1)[turns] == 1
            estimates = np.where(swapped, estimates[::-1], estimates)
        elif self.rng.integers(2):
            estimates = estimates[::-1]
        return estimates.T[None]

    def wrong(self, estimates):
        """Share of the seconds in which a speaker is in the wrong output."""
        seconds = self.mixture.size // RATE
        cut = (signals[:, :seconds * RATE].reshape(2, seconds, RATE)
               for signals in (estimates, self.sources))
        estimates, sources = cut
        products = np.einsum("cst,kst->cks", estimates, sources) ** 2
        own = products[0, 0] + products[1, 1] > products[0, 1] + products[1, 0]
        active = np.square(sources).sum(axis=(0, 2)) > 1e-3
        share = own[active].mean()
        return min(share, 1 - share)


def everything(seconds):
    return np.ones((2, seconds * RATE))


def turns(seconds, silence=0):
    """Turns of 4 s, with silence after each pair."""
    activity = np.zeros((2, seconds * RATE))
    at = 0
    while at < seconds:
        activity[0, at * RATE:(at + 4) * RATE] = 1
        activity[1, (at + 4) * RATE:(at + 8) * RATE] = 1
        at += 8 + silence
    return activity


@pytest.mark.parametrize("window, hop, options", SHAPES)
@pytest.mark.parametrize("size", [0, 1, 7, 800, 801, 1000, 1001, 1697])
def test_any_split_gives_the_same_in_full_length(window, hop, options, size):
    signal = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    windows = WindowedSeparation(split, 2, window, hop, **options)
    whole = run(windows, signal, max(size, 1))
    assert whole.shape == (2, size) and whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=0), signal, atol=1e-6)  # fades sum to one
    for piece in (1, 13, 244, 10000):
        assert np.array_equal(run(windows, signal, piece), whole)


@pytest.mark.parametrize("size", [1, 799, 800])
def test_a_signal_of_one_window_is_separated_as_it_is(size):
    signal = np.random.default_rng(0).standard_normal(size).astype(np.float32)

    def separate(mixtures):
        return np.stack([mixtures ** 2, mixtures * mixtures.std()], axis=-1)

    for piece in (1, size):
        estimates = run(WindowedSeparation(separate, 2, 800, 600), signal, piece)
        assert np.array_equal(estimates, separate(signal[None])[0].T)


@pytest.mark.parametrize("activity, options", [
    (everything(60), {}),
    (turns(120), {}),
    (turns(120), {"swap_within": True}),
    (turns(150, silence=20), {}),
    (turns(150, silence=20), {"swap_within": True}),
])
def test_speakers_keep_their_output(activity, options):
    speakers = Speakers(activity, **options)
    windows = WindowedSeparation.for_recordings(speakers.separate, 2, RATE, segment=12, overlap=1.2)
    estimates = run(windows, speakers.mixture, 10000)
    assert speakers.wrong(estimates) <= 0.05


def test_speakers_keep_their_output_in_a_stream():
    speakers = Speakers(everything(20))
    windows = WindowedSeparation.for_streams(speakers.separate, 2, RATE, latency=0.5)
    estimates = run(windows, speakers.mixture, 1000)
    assert speakers.wrong(estimates) <= 0.05


@pytest.mark.parametrize("latency", [0.25, 0.5, 2.0])
def test_no_sample_waits_longer_than_the_latency(latency):
    windows = WindowedSeparation.for_streams(split, 2, RATE, latency=latency)
    returned = 0
    for fed in range(0, 6 * RATE, 100):
        assert fed - returned <= latency * RATE
        returned += windows.feed(np.ones(100, dtype=np.float32)).shape[1]
    assert windows.latency == latency * RATE


def test_the_state_is_copied_and_saved():
    speakers = Speakers(everything(20))
    windows = WindowedSeparation.for_streams(split, 2, RATE)
    windows.feed(speakers.mixture[:90001])
    twin = copy.deepcopy(windows)
    assert twin.separate is split
    loaded = pickle.loads(pickle.dumps(windows))
    with pytest.raises(ValueError, match="set `separate` again"):
        copy.deepcopy(loaded).feed(speakers.mixture[90001:])
    loaded.separate = split
    rest = run(windows, speakers.mixture[90001:], 5000)
    assert np.array_equal(run(twin, speakers.mixture[90001:], 777), rest)
    assert np.array_equal(run(loaded, speakers.mixture[90001:], 10000), rest)


def test_memory_does_not_grow(monkeypatch):
    monkeypatch.setattr(module, "HISTORY", 20)
    windows = WindowedSeparation(split, 2, 16000, 14000)
    block = np.random.default_rng(0).standard_normal(65536).astype(np.float32)
    sizes = []
    for _ in range(3):
        for _ in range(5):
            windows.feed(block)
        sizes.append(len(pickle.dumps(windows)))
    assert sizes[2] <= sizes[1] + 8 * 2 * 8 * (2 * 18 + 3)  # at most the blocks of a second


@pytest.mark.parametrize("speakers", [1, 3, 7])
def test_other_numbers_of_speakers(speakers):
    rng = np.random.default_rng(0)
    shares = rng.random(speakers)

    def separate(mixtures):
        return mixtures[..., None] * rng.permutation(shares)

    signal = rng.standard_normal(5 * RATE).astype(np.float32)
    windows = WindowedSeparation.for_recordings(separate, speakers, RATE, segment=1, overlap=0.1)
    assert run(windows, signal, 10000).shape == (speakers, 5 * RATE)


def test_silence_stays_silent_and_tells_nothing():
    voices = Voices(2, RATE)
    silence = np.zeros((2, 2 * RATE), dtype=np.float32)
    assert np.array_equal(voices.in_order(silence, silence[:, :RATE]), silence)
    assert voices._history.size == 0


def test_the_best_path_is_the_best_of_all():
    rng = np.random.default_rng(0)
    scores, costs = rng.standard_normal((6, 2)), rng.random(6)

    def total(path):
        changes = np.diff(path) != 0
        return scores[np.arange(6), path].sum() - costs[1:][changes].sum()

    paths = [[(number >> bit) & 1 for bit in range(6)] for number in range(64)]
    path, score = best_path(scores, costs)
    assert score == pytest.approx(max(map(total, paths)))
    assert total(path) == pytest.approx(score)


@pytest.mark.parametrize("options", [
    {"hop": 800}, {"hop": 0}, {"hop": 700, "fade": 200}, {"hop": 600, "first": 900},
    {"hop": 600, "first": 50},
])
def test_windows_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=r"hop|overlap|first"):
        WindowedSeparation(split, 2, window=800, **options)


def test_samples_have_one_dimension():
    with pytest.raises(ValueError, match="must be"):
        WindowedSeparation(split, 2, 800, 600).feed(np.zeros((2, 10)))
