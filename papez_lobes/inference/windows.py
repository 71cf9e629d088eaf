"""Separation of a signal of any length in overlapping windows.

Long recordings are separated in long windows, live streams in windows that advance by a short hop.
Both give the same estimates however the signal is cut into pieces, and memory does not grow. Needs
numpy only.
"""

import copy
import itertools
from collections.abc import Callable

import numpy as np


class WindowedSeparation:
    """Separate a signal window by window; each speaker keeps its output.

    Window k ends `first + k * hop` samples after the start of the signal and is `window` samples
    long, or less where the signal has only begun. The last window ends where the signal ends.
    Consecutive windows cross-fade; `look_ahead` samples at the end of a window, which lack
    context, are left to the next one. A sample is returned at most `latency` samples after it was
    fed if `first` is not larger than `latency`. A signal not longer than `first` is separated as
    `separate` alone does.

    Arguments
    ---------
    separate : callable
        Mixtures [B, T] to estimates [B, T, C] on the mixtures' scale, float32.
    num_speakers : int
        C.
    window, hop : int
        Samples, hop < window.
    sample_rate : int
        In Hz.
    look_ahead : int, optional
        Samples. Default: half of the overlap `window - hop` that the fade leaves.
    fade : int, optional
        Samples. Default: a third of the overlap.
    first : int, optional
        Samples in the first window. Default: `window`.

    Example
    -------
    >>> halves = lambda mixtures: np.stack([mixtures / 2, mixtures / 2], axis=-1)
    >>> windows = WindowedSeparation(halves, num_speakers=2, window=800, hop=600)
    >>> signal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    >>> pieces = [windows.feed(signal[:900]), windows.feed(signal[900:]), windows.flush()]
    >>> [piece.shape for piece in pieces]
    [(2, 667), (2, 0), (2, 333)]
    >>> bool(np.allclose(np.concatenate(pieces, axis=1), signal / 2))
    True
    """

    def __init__(
        self, separate: Callable[[np.ndarray], np.ndarray], num_speakers: int, window: int,
        hop: int, sample_rate: int = 8000, look_ahead: int | None = None,
        fade: int | None = None, first: int | None = None,
    ):
        overlap = window - hop
        if not 0 < hop < window:
            raise ValueError(f"the hop must be 1 to {window - 1} samples, not {hop}")
        fade = overlap // 3 if fade is None else fade
        look_ahead = (overlap - fade) // 2 if look_ahead is None else look_ahead
        first = window if first is None else first
        if fade < 0 or look_ahead < 0 or fade + look_ahead > overlap:
            raise ValueError(f"fade and look-ahead must fit into the overlap of {overlap} samples")
        if not fade + look_ahead < first <= window:
            raise ValueError("the first window must be longer than fade and look-ahead, and at "
                             f"most {window} samples")
        self.separate = separate
        self.num_speakers, self.window, self.hop = num_speakers, window, hop
        self.look_ahead, self.fade, self.first = look_ahead, fade, first
        self._fade_in = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
        self._voices = Voices(num_speakers, sample_rate)
        self._buffer = np.zeros(window + hop, dtype=np.float32)
        self._start()

    def _start(self):
        """Begin a signal."""
        self._held = 0  # samples in the buffer: the last ones, `window` or more where there are
        self._received = 0  # samples of the signal so far
        self._next_end = self.first  # of the next window
        self._end = 0  # of the last window
        self._estimates = np.zeros((self.num_speakers, 0), dtype=np.float32)  # up to `_end`
        self._returned = 0  # samples of the estimates
        self._voices.reset()

    @property
    def latency(self) -> int:
        """Samples that a sample waits at most, where `first` is not larger."""
        return self.hop + self.look_ahead + self.fade

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, and return the estimates that are ready.

        Arguments
        ---------
        samples : numpy.ndarray
            [n], n >= 0.

        Returns
        -------
        numpy.ndarray
            [C, m], m >= 0, float32.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples must be [n], not {list(samples.shape)}")
        ready = [np.zeros((self.num_speakers, 0), dtype=np.float32)]
        while samples.size:
            wanted = self._next_end - self._received
            self._receive(samples[:wanted])
            samples = samples[wanted:]
            if self._received == self._next_end:
                self._separate_window()
                ready.append(self._take(self._end - self.look_ahead - self.fade))
                self._next_end += self.hop
        return np.concatenate(ready, axis=1)

    def flush(self) -> np.ndarray:
        """End the signal and return the rest of the estimates. The next `feed` begins a new one.

        Returns
        -------
        numpy.ndarray
            [C, m], m >= 0, float32.
        """
        if self._end < self._received:
            self._separate_window()
        rest = self._take(self._received)
        self._start()
        return rest

    def _receive(self, samples):
        """Append samples to the buffer."""
        self._buffer[self._held:self._held + samples.size] = samples
        self._held += samples.size
        self._received += samples.size

    def _separate_window(self):
        """Separate the last `window` samples and join the estimates with those so far."""
        if self.separate is None:
            raise ValueError("set `separate` again: it is not part of a pickled state")
        size = min(self.window, self._held)
        self._buffer[:size] = self._buffer[self._held - size:self._held].copy()
        self._held = size
        mixture = self._buffer[None, :size].copy()
        estimates = np.asarray(self.separate(mixture), dtype=np.float32)[0].T  # [C, size]
        begin = self._received - size
        known = self._estimates[:, self._estimates.shape[1] - (self._end - begin):]
        estimates = self._voices.in_order(estimates, known)
        self._estimates = self._join(known, estimates, self._returned - begin)
        self._end = self._received

    def _join(self, known, estimates, start):
        """Known estimates up to `start`, then a fade to the new ones."""
        joined = estimates.copy()
        if not known.shape[1]:
            return joined
        joined[:, :start] = known[:, :start]
        fading = slice(start, start + self.fade)
        joined[:, fading] = known[:, fading] + self._fade_in * (
            estimates[:, fading] - known[:, fading]
        )
        return joined

    def _take(self, end):
        """The estimates that were not yet returned, up to sample `end` of the signal."""
        origin = self._end - self._estimates.shape[1]
        taken = self._estimates[:, self._returned - origin:end - origin]
        self._returned = end
        return taken

    def __getstate__(self):
        return self.__dict__ | {"separate": None}

    def __deepcopy__(self, memo):
        twin = copy.copy(self)
        twin.__dict__ = copy.deepcopy(self.__getstate__(), memo)
        twin.separate = self.separate
        return twin


class Voices:
    """What is known of each speaker, and the order of a window's outputs that fits it.

    Arguments
    ---------
    num_speakers : int
        C.
    sample_rate : int
        In Hz.
    """

    def __init__(self, num_speakers: int, sample_rate: int):
        self.orders = [list(order) for order in itertools.permutations(range(num_speakers))]
        self.frame = int(0.032 * sample_rate)
        self.reset()

    def reset(self):
        """Forget the voices."""
        self.spectra = None
        self.weights = None

    def in_order(self, estimates: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Bring the outputs of a window into the speakers' order.

        Arguments
        ---------
        estimates : numpy.ndarray
            [C, T].
        known : numpy.ndarray
            [C, overlap]: of the window's begin, in the speakers' order.

        Returns
        -------
        numpy.ndarray
            [C, T].
        """
        overlap = known.shape[1]
        products = (known.astype(np.float64) @ estimates[:, :overlap].T) if overlap else (
            np.zeros((len(estimates), len(estimates))))
        energy = np.sqrt((known.astype(np.float64) ** 2).sum() *
                         (estimates[:, :overlap].astype(np.float64) ** 2).sum())
        speakers = range(len(estimates))
        agreement = np.array([sum(products[c, o[c]] for c in speakers) for o in self.orders])
        if energy > 0:
            agreement = agreement / energy
        order = self.orders[int(np.argmax(agreement))]
        return estimates[order]
