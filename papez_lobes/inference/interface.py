"""The interface of trained separators: samples, files and live streams.

It needs NumPy alone. `papez_lobes.inference.trained` implements it with PyTorch, and
`papez_lobes.runtime` with onnxruntime.
"""

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np

from papez_lobes.errors import UserError
from papez_lobes.inference.engines import ENGINES, separator_class
from papez_lobes.inference.shipped import candidates
from papez_lobes.inference.windows import (
    OVERLAP,
    SEGMENT,
    WindowedSeparation,
    check_latency,
)

logger = logging.getLogger(__name__)
TIMED_RUNS, TIMED_SECONDS = 3, 2  # of noise, to measure a real-time factor
SHORTEST_SEGMENT, LONGEST_SEGMENT = 0.1, 3600.0  # seconds, of the windows of recordings
LOUDEST = np.float32(2**31)  # louder samples are scaled to this peak: squares overflow


def load(
    bundle: str | Path | None = None, device: object = None, dtype: str = "float32",
    mean_depth: float | None = None, num_speakers: int | None = None,
    overrides: dict | None = None, trust: bool = False, engines: Sequence[str] = ENGINES,
    largest_rtf: float = 0.2,
) -> "SpeechSeparation":
    """Load a trained separator, offline.

    Arguments
    ---------
    bundle : str or pathlib.Path, optional
        A bundle's folder, the name of one that comes with the package (see `papez list`), 'fast'
        or 'best' for the smallest or largest of these, or a model file that `papez export` wrote
        (`.onnx`), which needs no PyTorch. Default: the best one of the package that is fast enough
        here, see `largest_rtf`.
    device : str or torch.device, optional
        Default: CUDA where it works, then Apple's MPS, then the CPU.
    dtype : str
        Precision: float32, bfloat16, float16 or int8, see
        `papez_lobes.fast.precision.lower_precision`.
    mean_depth : float, optional
        Mean number of steps of a token, set on the first recording that is separated: fewer steps
        take less time and separate less well.
    num_speakers : int, optional
        Number of speakers, by which the package's bundle is chosen. Default: 2.
    overrides : dict, optional
        Hyperparameters to change that keep the shapes of the weights, such as `max_depth`.
    trust : bool
        Also load a bundle whose hyperparams.yaml builds other classes than lobes. It can then run
        any code, so pass True only for bundles from people whom you trust.
    engines : sequence of str
        What may compute, the preferred first: 'torch', and 'onnx' for bundles with an ONNX file
        (those of the package have one). Default: PyTorch where it is installed. ONNX starts sooner
        and needs less memory, and always runs on the CPU.
    largest_rtf : float
        Largest real-time factor (seconds of computing for one of audio) of a bundle that is chosen
        because none is named. If all take longer, it is the smallest one. A bundle that is too
        slow is named in a warning.

    Returns
    -------
    SpeechSeparation

    Raises
    ------
    papez_lobes.errors.UserError
        The bundle is missing, incomplete or damaged, an argument is wrong, or a package that is
        needed is not installed.

    Example
    -------
    >>> separator = load("papez-small-8k", device="cpu")
    >>> separator.sample_rate, separator.num_speakers
    (8000, 2)
    """
    names = candidates(bundle, num_speakers)
    for name, smaller in zip_longest(names, names[1:]):
        separator = separator_class(name, engines).load(name, device, dtype, overrides, trust)
        if smaller is None or (rtf := separator.measure_rtf()) <= largest_rtf:
            break
        # it is said, as a machine that is busy for a moment gives other estimates
        logger.warning(f"{name} takes {rtf:.2g} of real time here, and {largest_rtf:.2g} is "
                       f"wanted: {smaller} is tried; name a bundle to choose")
    if num_speakers not in (None, separator.num_speakers):
        raise UserError(f"{bundle}: separates {separator.num_speakers} speakers, not "
                        f"{num_speakers}; name another bundle, or none")
    if mean_depth is not None:
        separator.set_mean_depth(mean_depth)
    return separator


class SpeechSeparation(ABC):
    """A trained separator. `papez_lobes.load` gives one.

    Arguments
    ---------
    path : str
        The bundle or the model file.
    sample_rate : int
        Rate of the model, in Hz.
    num_speakers : int
        Number of estimates, C.
    """

    engine: str  # what computes, one of `papez_lobes.inference.engines.ENGINES`

    def __init__(self, path: str, sample_rate: int, num_speakers: int):
        self.path = path
        self.sample_rate = sample_rate
        self.num_speakers = num_speakers

    @abstractmethod
    def separate_with_depth(self, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Separate a batch of mixtures, each as a whole.

        Arguments
        ---------
        mixtures : numpy.ndarray
            [B, T], float32, finite, at the model's rate.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray or None)
            Estimates [B, T, C], float32, whose sum is as close as possible to the mixture; and
            the steps [B, L] that each token ran, or None for a model without recurrence.
        """

    def separate_batch(self, mixtures: np.ndarray) -> np.ndarray:
        """The estimates of `separate_with_depth` alone."""
        return self.separate_with_depth(mixtures)[0]

    def separate(self, samples, sample_rate: int):
        """Separate one recording or a batch of them.

        Recordings of more than half a minute are separated in overlapping windows.

        Arguments
        ---------
        samples : array_like or torch.Tensor
            [T], or [B, T] for B recordings with one channel each. Any integer or floating-point
            type.
        sample_rate : int
            Rate of the samples, in Hz. They are resampled to the model's rate, and the estimates
            back; what the model cannot hear is then missing from the estimates.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            [C, T] or [B, C, T], float32, on the scale of the samples. A tensor, on the same
            device, if the samples are one.

        Raises
        ------
        ValueError
            The samples have another shape, are empty, or are not finite numbers, or the rate is
            no positive integer.

        Example
        -------
        >>> import papez_lobes
        >>> separator = papez_lobes.load("papez-small-8k")
        >>> separator.separate(np.zeros(16000, dtype=np.int16), 16000).shape
        (2, 16000)
        """
        from papez_lobes.data.resampling import resample

        if isinstance(sample_rate, bool) or int(sample_rate) != sample_rate or sample_rate < 1:
            raise ValueError(f"sample_rate is {sample_rate!r}: it must be a positive number of Hz")
        mixtures = _to_array(samples)
        size, rate = mixtures.shape[-1], int(sample_rate)
        mixtures = resample(np.atleast_2d(mixtures), rate, self.sample_rate)
        scale = np.maximum(np.abs(mixtures).max(axis=1, keepdims=True) / LOUDEST, 1)
        mixtures = mixtures / scale
        window = round(SEGMENT * self.sample_rate)
        if mixtures.shape[1] <= window:
            estimates = self.separate_batch(mixtures).transpose(0, 2, 1)
        else:
            estimates = np.stack([self._separate_long(mixture) for mixture in mixtures])
        estimates = resample(estimates * scale[:, np.newaxis], self.sample_rate, rate)
        missing = max(0, size - estimates.shape[-1])
        estimates = np.pad(estimates, ((0, 0), (0, 0), (0, missing)))[..., :size]
        return _like(estimates if np.ndim(samples) == 2 else estimates[0], samples)

    def separate_file(
        self, source: str | Path | bytes | BinaryIO, out: str | Path | None = None,
        overwrite: bool = False,
    ) -> tuple[np.ndarray, int]:
        """Separate an audio file.

        Arguments
        ---------
        source : str, pathlib.Path, bytes or binary file object
            An audio file with any rate and number of channels. Channels are averaged.
        out : str or pathlib.Path, optional
            Folder to write the estimates to: `<stem>_s1.wav`, `<stem>_s2.wav`, ... with 16 bit
            and the model's rate. If an estimate exceeds full scale, all are scaled down alike.
        overwrite : bool
            Replace estimates that exist.

        Returns
        -------
        (numpy.ndarray, int)
            Estimates [C, T], float32, and their rate in Hz.

        Raises
        ------
        papez_lobes.errors.UserError
            The source cannot be read as audio, or the estimates cannot be written.
        """
        from papez_lobes.data.audio import open_audio
        from papez_lobes.data.tracks import TrackWriter
        from papez_lobes.inference.files import separate_blocks
        from papez_lobes.inference.recordings import estimate_paths

        pieces = []
        track = Path(source).stem if isinstance(source, (str, Path)) else "recording"
        with open_audio(source, self.sample_rate) as audio:
            if audio.info.channels > 1:
                logger.warning(f"{track}: its {audio.info.channels} channels are averaged")
            for _, estimates in separate_blocks(self, audio.blocks()):
                pieces.append(estimates)
        estimates = np.concatenate(pieces, axis=1)
        if out is not None:
            paths = estimate_paths(out, track, self.num_speakers)
            with TrackWriter(paths, self.sample_rate, overwrite=overwrite) as writer:
                writer.write(estimates)
        return estimates, self.sample_rate

    def measure_rtf(self) -> float:
        """The real-time factor of separating 2 s of noise here, the best of three times.

        It is by the clock or by computing time, whichever is less: the clock runs on while other
        programs have the processor, and threads that wait for each other count as computing.
        """
        noise = np.random.default_rng(0).standard_normal((1, TIMED_SECONDS * self.sample_rate))
        seconds = []
        for _ in range(TIMED_RUNS):
            started = time.perf_counter(), time.process_time()
            self.separate_batch(noise.astype(np.float32))
            seconds += [time.perf_counter() - started[0], time.process_time() - started[1]]
        return min(seconds) / TIMED_SECONDS

    def set_mean_depth(self, mean_depth: float) -> None:
        """Set the mean number of steps of a token, on the first recording that is separated.

        Raises
        ------
        papez_lobes.errors.UserError
            The depth of the model cannot be set.
        """
        raise UserError(f"{self.path}: a mean depth needs PyTorch and a bundle; give a max_depth "
                        "or a halting_threshold")

    def set_budget(
        self, samples: np.ndarray, mean_depth: float | None = None,
        real_time_factor: float | None = None,
    ):
        """Set how much is computed, on given speech. A model whose depth is fixed refuses.

        Arguments
        ---------
        samples : numpy.ndarray
            [T], at the model's rate.
        mean_depth : float, optional
            Mean number of steps of a token.
        real_time_factor : float, optional
            Seconds of computing per second of audio to stay below.

        Returns
        -------
        papez_lobes.inference.compute_budget.Setting
            With the halting bias that was set.

        Raises
        ------
        papez_lobes.errors.UserError
            The budget cannot be met.
        """
        raise UserError(
            f"{self.path}: a mean depth or a real-time factor needs PyTorch and a bundle")

    def stream(self, latency: float = 0.5) -> WindowedSeparation:
        """Start the separation of a live signal.

        Arguments
        ---------
        latency : float
            Delay of the estimates, in seconds. A longer one computes less.

        Returns
        -------
        papez_lobes.inference.windows.WindowedSeparation
            `feed(samples)` takes samples [n] at the model's rate and returns the estimates [C, m]
            that are ready; `flush()` returns the rest.
        """
        check_latency(latency)
        return WindowedSeparation.for_streams(
            self.separate_batch, self.num_speakers, self.sample_rate, latency
        )

    def windows(
        self, segment: float = SEGMENT, overlap: float = OVERLAP, separate=None,
    ) -> WindowedSeparation:
        """Start the separation of a recording of any length in overlapping windows.

        Arguments
        ---------
        segment, overlap : float
            Length of a window, and the part that it shares with the next one, in seconds.
        separate : callable, optional
            Takes the place of `separate_batch`.

        Returns
        -------
        papez_lobes.inference.windows.WindowedSeparation

        Raises
        ------
        papez_lobes.errors.UserError
            The overlap is not above 0, or more than half of the segment, or the segment is below
            0.1 s or above an hour.
        """
        if not 0 < overlap <= segment / 2:
            raise UserError(
                f"segments of {segment:g} s that overlap by {overlap:g} s: the overlap must be "
                "above 0 and at most half a segment"
            )
        if not SHORTEST_SEGMENT <= segment <= LONGEST_SEGMENT:
            raise UserError(f"segments of {segment:g} s: they must have {SHORTEST_SEGMENT:g} to "
                            f"{LONGEST_SEGMENT:g} s")
        return WindowedSeparation.for_recordings(
            separate or self.separate_batch, self.num_speakers, self.sample_rate, segment, overlap
        )

    def _separate_long(self, mixture):
        """Estimates [C, T] of one mixture [T] that is longer than a window."""
        windows = self.windows()
        return np.concatenate([windows.feed(mixture), windows.flush()], axis=1)


def _to_array(samples) -> np.ndarray:
    """Samples as float32, checked."""
    if hasattr(samples, "detach"):  # a tensor, which may be of a type that NumPy lacks
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    array = np.asarray(samples)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"samples are {array.dtype}: they must be integers or floating point")
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"samples are {list(array.shape)}: they must be [T], or [B, T] for a batch, T >= 1"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("samples are NaN or infinite in places: remove these first")
    return array


def _like(estimates: np.ndarray, samples):
    """Estimates as a tensor, if the samples are one."""
    if hasattr(samples, "detach"):
        return sys.modules["torch"].from_numpy(estimates).to(samples.device)
    return estimates
