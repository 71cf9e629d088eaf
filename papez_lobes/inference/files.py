"""Separation of audio files of any length: reading, separating and writing as it goes."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from papez_lobes.data.audio import open_audio
from papez_lobes.data.resampling import Resampler
from papez_lobes.data.tracks import TrackWriter
from papez_lobes.inference.interface import SpeechSeparation
from papez_lobes.inference.shipped import ONNX_FILE
from papez_lobes.inference.windows import OVERLAP, SEGMENT

LONE_VOICE_DB = 12.0  # or more: the margin of the loudest estimate if nobody else speaks
SILENT_DB = -200.0  # stands for the level of digital silence


@dataclass(frozen=True)
class FileOptions:
    """How recordings are separated and written."""

    segment: float = SEGMENT  # seconds, of a window
    overlap: float = OVERLAP  # seconds, of neighbouring windows
    subtype: str = "PCM_16"  # or "PCM_24" or "FLOAT"
    clip: str = "rescale"  # or "clamp", see `papez_lobes.data.tracks.TrackWriter`
    keep_rate: bool = False  # write at the recording's rate rather than the model's
    residual: bool = False  # also write what is missing: the mixture minus all estimates


@dataclass
class Report:
    """What was done with one recording."""

    paths: list[Path] = field(default_factory=list)  # files that were written
    seconds: float = 0.0  # duration of the recording
    channels: int = 1  # of the recording
    sample_rate: int = 0  # of the recording, in Hz
    model_rate: int = 0  # of the model, in Hz
    bundle: str = ""  # name of the bundle or model file
    engine: str = ""  # what computed: "torch" or "onnx"
    # RMS level of each estimate in dB relative to full scale; -200 for silence
    levels_db: list[float] = field(default_factory=list)
    depth: float | None = None  # mean number of steps of a token; None without a recurrence
    real_time_factor: float = 0.0  # seconds of computing per second of audio
    flaw: str | None = None  # what is missing from a truncated file

    @property
    def margin_db(self) -> float:
        """How much louder the loudest estimate is than the next one, in dB."""
        levels = sorted(self.levels_db, reverse=True)
        return levels[0] - levels[1] if len(levels) > 1 else 0.0

    @property
    def lone_voice(self) -> int | None:
        """The number of the only estimate with a voice, from 1; None if there are several.

        Example
        -------
        >>> Report(levels_db=[-50.0, -20.0]).lone_voice
        2
        """
        loudest = max(self.levels_db)
        if loudest <= SILENT_DB or self.margin_db < LONE_VOICE_DB:
            return None
        return self.levels_db.index(loudest) + 1


def separate_recording(
    separator: SpeechSeparation, source: str | Path | bytes | BinaryIO, paths: list[Path],
    options: FileOptions = FileOptions(), overwrite: bool = False,
    progress: Callable[[float], object] = lambda done: None,
) -> Report:
    """Separate one recording into one file per speaker, in constant memory.

    The files appear whole, and all of them or none.

    Arguments
    ---------
    separator : SpeechSeparation
        From `papez_lobes.load`.
    source : str, pathlib.Path, bytes or binary file object
        The recording.
    paths : list of pathlib.Path
        A file for each speaker, and one for the residual if it is wanted.
    options : FileOptions
        How to separate and write.
    overwrite : bool
        Replace files that exist.
    progress : callable
        Called with the seconds of audio that were separated since the last call.

    Raises
    ------
    UserError
        The recording cannot be read, or a file exists or cannot be written.
    """
    started = time.perf_counter()
    rate, energies, samples = separator.sample_rate, np.zeros(separator.num_speakers), 0
    steps = tokens = 0

    def separate(mixtures):
        nonlocal steps, tokens
        estimates, depth = separator.separate_with_depth(mixtures)
        if depth is not None:
            steps += int(depth.sum())
            tokens += depth.size
        return estimates

    file = Path(separator.path).resolve()
    bundle = file.parent if file.name == ONNX_FILE else file
    with open_audio(source, rate, truncated="keep") as audio:
        report = Report(model_rate=rate, sample_rate=audio.info.sample_rate,
                        channels=audio.info.channels, engine=separator.engine,
                        bundle=bundle.name)
        out_rate = audio.info.sample_rate if options.keep_rate else rate
        with TrackWriter(
            paths, out_rate, options.subtype, options.clip, overwrite, source
        ) as writer:
            resampler = Resampler(rate, out_rate)
            pieces = separate_blocks(
                separator, audio.blocks(), options.segment, options.overlap, separate
            )
            for mixture, estimates in pieces:
                energies += np.square(estimates, dtype=np.float64).sum(axis=1)
                samples += mixture.size
                if options.residual:
                    residual = mixture - estimates.sum(axis=0)
                    estimates = np.concatenate([estimates, residual[None]])
                writer.write(resampler.feed(estimates))
                progress(mixture.size / rate)
            total = audio.frames_read if options.keep_rate else None
            writer.write(resampler.flush(total))
        report.flaw = audio.flaw
    report.paths = list(paths)
    report.seconds, report.levels_db = samples / rate, _levels_db(energies, samples)
    report.depth = steps / tokens if tokens else None
    report.real_time_factor = (time.perf_counter() - started) / report.seconds
    return report


def separate_blocks(
    separator: SpeechSeparation, blocks: Iterable[np.ndarray], segment: float = SEGMENT,
    overlap: float = OVERLAP, separate: Callable | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Separate a signal that comes in blocks [n], at the model's rate.

    For `segment`, `overlap` and `separate` see `SpeechSeparation.windows`.

    Yields
    ------
    (numpy.ndarray, numpy.ndarray)
        Pieces of the signal [m] and of its estimates [C, m], m >= 1.
    """
    windows = separator.windows(segment, overlap, separate)
    waiting = np.zeros(0, dtype=np.float32)  # of the signal, whose estimates are not ready
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        ready = windows.feed(block)
        if ready.shape[1]:
            yield waiting[: ready.shape[1]], ready
            waiting = waiting[ready.shape[1]:]
    ready = windows.flush()
    if ready.shape[1]:
        yield waiting, ready


def _levels_db(energies, samples):
    """RMS levels of estimates by their energies, in dB relative to full scale."""
    powers = np.maximum(energies / samples, 10 ** (SILENT_DB / 10))
    return [round(float(level), 2) for level in 10 * np.log10(powers)]
