"""Separation of a signal of any length in overlapping windows.

Long recordings are separated in long windows, live streams in windows that advance by a short hop.
Both give the same estimates however the signal is cut into pieces, and memory does not grow. Needs
numpy only.
"""

import copy
from collections.abc import Callable

import numpy as np

from papez_lobes.errors import UserError
from papez_lobes.inference.voices import Voices, fade_in

SEGMENT, OVERLAP = 30.0, 3.0  # seconds, of the windows of recordings
STREAM_WINDOW = 4.0  # seconds
STREAM_HOP = 0.75  # of a stream's latency
SHORTEST_LATENCY = 0.01  # seconds, of a stream


def check_latency(latency: float) -> None:
    """Raise UserError if a stream cannot have this latency in seconds."""
    if not SHORTEST_LATENCY <= latency < STREAM_WINDOW:
        raise UserError(f"a latency of {latency:g} s: it must be {SHORTEST_LATENCY:g} or more, and "
                        f"below {STREAM_WINDOW:g}")


def stream_cost(latency: float) -> float:
    """How often each sample of a stream of this latency in seconds is separated.

    Example
    -------
    >>> stream_cost(1.0)
    5.333333333333333
    """
    return STREAM_WINDOW / (STREAM_HOP * latency)


class WindowedSeparation:
    """Separate a signal window by window. Each speaker keeps its output.

    Window k ends `first + k * hop` samples after the start of the signal and is `window` samples
    long, or less where the signal has only begun. The last window ends where the signal ends.
    Consecutive windows cross-fade. The last `look_ahead` samples of a window lack context and are
    left to the next one. A sample is returned at most `latency` samples after it was fed if
    `first` is not larger than `latency`. A signal not longer than `first` is separated as
    `separate` alone does.

    The state has constant size. `copy.deepcopy` copies it, and `pickle` saves it without
    `separate`, which must be set again afterwards. `order` brings the outputs into order; another
    object with the methods `reset` and `in_order` of `Voices` may take its place.

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
        self._fade_in = fade_in(fade)
        self.order = Voices(num_speakers, sample_rate)
        self._buffer = np.zeros(window + hop, dtype=np.float32)
        self._start()

    @classmethod
    def for_recordings(
        cls, separate: Callable[[np.ndarray], np.ndarray], num_speakers: int,
        sample_rate: int = 8000, segment: float = SEGMENT, overlap: float = OVERLAP,
    ) -> "WindowedSeparation":
        """Long windows, for files.

        Windows of 8 to 60 s separate full overlap equally well. Where speakers take turns, longer
        ones are better: with 4 s, the separator hears too few turns of each. Memory grows by about
        2 MB for each second of a window.

        Arguments
        ---------
        separate, num_speakers, sample_rate
            As for the class.
        segment : float
            Duration of a window in seconds.
        overlap : float
            What two neighbouring windows share, in seconds, more than 0 and less than a window. It
            costs as much of the speed.
        """
        window = round(segment * sample_rate)
        hop = window - round(overlap * sample_rate)
        return cls(separate, num_speakers, window, hop, sample_rate)

    @classmethod
    def for_streams(
        cls, separate: Callable[[np.ndarray], np.ndarray], num_speakers: int,
        sample_rate: int = 8000, latency: float = 0.5,
    ) -> "WindowedSeparation":
        """Short windows that advance by a part of the latency, for live streams.

        A window holds 4 s, of which all but the end is past. Three quarters of the latency are the
        hop, which decides the speed: each hop costs the separation of a window. The rest is
        look-ahead and fade. The first windows are shorter, so that the first estimates come as
        soon as the later ones. docs/separating.md has real-time factors and scores by latency.

        Arguments
        ---------
        separate, num_speakers, sample_rate
            As for the class.
        latency : float
            Seconds that a sample waits at most, less than 4.

        Example
        -------
        >>> windows = WindowedSeparation.for_streams(None, num_speakers=2, latency=0.5)
        >>> windows.window, windows.hop, windows.look_ahead, windows.fade, windows.latency
        (32000, 3000, 600, 400, 4000)
        """
        window = round(STREAM_WINDOW * sample_rate)
        delay = round(latency * sample_rate)
        hop, fade = round(STREAM_HOP * delay), round(0.1 * delay)
        return cls(separate, num_speakers, window, hop, sample_rate,
                   look_ahead=delay - hop - fade, fade=fade, first=delay)

    def _start(self):
        """Begin a signal."""
        self._held = 0  # samples in the buffer: the last ones, `window` or more where there are
        self._received = 0  # samples of the signal so far
        self._next_end = self.first  # of the next window
        self._end = 0  # of the last window
        self._estimates = np.zeros((self.num_speakers, 0), dtype=np.float32)  # up to `_end`
        self._returned = 0  # samples of the estimates
        self.order.reset()

    @property
    def latency(self) -> int:
        """Samples that a sample waits at most, where `first` is not larger."""
        return self.hop + self.look_ahead + self.fade

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples [n], n >= 0, and return the estimates that are ready.

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
            if self._received == self._next_end:  # a whole window was held back, see below
                ready.append(self._advance())
            piece, samples = np.split(samples, [self._next_end - self._received])
            self._buffer[self._held:self._held + piece.size] = piece
            self._held += piece.size
            self._received += piece.size
            # The first window may be the only one, which is returned as it is.
            may_be_alone = self._end == 0 and self.first == self.window
            if self._received == self._next_end and not may_be_alone:
                ready.append(self._advance())
        return np.concatenate(ready, axis=1)

    def flush(self) -> np.ndarray:
        """End the signal and return the rest of the estimates, [C, m], m >= 0, float32.

        The next `feed` begins a new one.
        """
        if self._end == 0 < self._received:  # the only window
            self._estimates = self._separate_window()
            self._end = self._received
        elif self._end < self._received:
            self._join(self._separate_window())
        rest = self._take(self._received)
        self._start()
        return rest

    def _advance(self):
        """Separate the next window, and return what is ready then."""
        self._join(self._separate_window())
        self._next_end += self.hop
        return self._take(self._end - self.look_ahead - self.fade)

    def _separate_window(self):
        """Estimates [C, T] of the last `window` samples, as they come."""
        if self.separate is None:
            raise ValueError("set `separate` again: a pickled state does not hold it")
        size = min(self.window, self._held)
        self._buffer[:size] = self._buffer[self._held - size:self._held].copy()
        self._held = size
        mixture = self._buffer[None, :size].copy()
        return np.asarray(self.separate(mixture), dtype=np.float32)[0].T

    def _join(self, estimates):
        """Bring estimates into order, and fade from those so far to them."""
        begin = self._received - estimates.shape[1]
        known = self._estimates[:, self._estimates.shape[1] - (self._end - begin):]
        estimates = self.order.in_order(estimates, known)
        if known.shape[1]:
            start = self._returned - begin
            fading = slice(start, start + self.fade)
            faded = known[:, fading] + self._fade_in * (estimates[:, fading] - known[:, fading])
            estimates = np.concatenate(
                [known[:, :start], faded, estimates[:, start + self.fade:]], axis=1
            )
        self._estimates, self._end = estimates, self._received

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
