"""Rendering: from the plan of a mixture to its samples, by WSJ0-mix's rules.

Sources have gains over a common active level. They are cut to the shortest ("min") or filled up
with silence to the longest ("max"), and get one common scale. Files, training items and benchmarks
all come from `render`.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from papez_lobes.data.audio import audio_info, read_audio
from papez_lobes.data.lookup import find_audio
from papez_lobes.data.mixtures.equaliser import equalise
from papez_lobes.data.mixtures.levels import speech_level
from papez_lobes.data.mixtures.plans import MixturePlan, Piece, SourcePlan
from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError

PEAK = 0.9  # of the loudest sample in the mixture and its sources, as in WSJ0-mix
SILENCE = 2.0**-30  # power of one step of 16 bit: what is not louder counts as silent
LEVELS_KEPT = 10_000  # of files, so that a file in many mixtures is measured once
KINDS = ("speech", "noises", "rooms")  # of recordings


class FileRecordings:
    """Recordings of a folder, read from their files; see `papez_lobes.data.store.SpeechStore`."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def read(self, path: str, start: int, frames: int | None) -> tuple[np.ndarray, int]:
        """Read a piece: [T] samples, float32, and their rate in Hz."""
        file = find_audio(self.root, path)
        return read_audio(file, start=start, frames=frames), audio_info(file).sample_rate

    def level(self, path: str) -> float:
        """Return the active speech level of a whole recording, as a power."""
        return _level_of_file(find_audio(self.root, path))


@lru_cache(LEVELS_KEPT)
def _level_of_file(file):
    return speech_level(read_audio(file), audio_info(file).sample_rate)


def render(
    plan: MixturePlan, sample_rate: int, recordings: str | Path | Mapping, version: str = "min",
    dtype: type = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the samples of a plan: the mixture [T] and its sources [T, C].

    Each piece of speech is set to the source's gain over the active level of the whole recording
    that it is from (ITU-T P.56, measured at 8 kHz), as WSJ0-mix does with whole recordings. So
    gains are the same at every rate, and a recording is measured once however often it is mixed.
    The mixture is the sum of the sources, and of the noise if there is any. The largest absolute
    sample of mixture and sources together is 0.9.

    Arguments
    ---------
    plan : MixturePlan
        What to render.
    sample_rate : int
        In Hz; recordings of another rate are resampled.
    recordings : str, pathlib.Path or Mapping
        The folder that the plan's paths are below; or, for "speech", "noises" and "rooms", a
        `FileRecordings` or `papez_lobes.data.store.SpeechStore`. UserError if a file cannot be
        read, or a source is silent that should speak.
    version : "min" or "max"
        Cut to the shortest source, or fill up with zeros to the longest.
    dtype : numpy dtype
        Of the arithmetic and the result. float32 is for training, where speed matters.
    """
    recordings = _as_recordings(recordings)
    longest = None if plan.seconds is None else round(plan.seconds * sample_rate)
    frames = longest if plan.filled else 0
    parts = [render_source(source, sample_rate, recordings, dtype, frames)
             for source in plan.sources]
    length = {"min": min, "max": max}[version](map(len, parts))
    if longest is not None:
        length = min(length, longest)
    sources = np.zeros((len(parts), length), dtype)  # [C, T]: sums over C are quick so
    for row, part in zip(sources, parts):
        row[: len(part)] = part[:length]
    noise = 0.0
    if plan.noise:
        noise = _render_noise(plan, sources, sample_rate, recordings)
    peak = max(np.abs(sources).max(), np.abs(sources.sum(axis=0) + noise).max())
    if peak == 0:  # all that was audible was cut off
        raise _silent(plan.sources[0], f"{plan.name}: ")
    sources *= PEAK / peak
    return sources.sum(axis=0) + noise * (PEAK / peak), sources.T


def render_source(
    source: SourcePlan, sample_rate: int, recordings: str | Path | Mapping,
    dtype: type = np.float64, frames: int = 0,
) -> np.ndarray:
    """Render one source [T] at its gain over a level of 1, filled up to `frames` samples."""
    if not source.pieces:
        return np.zeros(frames, dtype)
    recordings = _as_recordings(recordings)
    gain = 10 ** (source.gain_db / 20)
    parts = []
    for piece in source.pieces:
        level = recordings["speech"].level(piece.path)
        if level <= SILENCE:
            raise _silent(source, f"{piece.path}: ")
        samples = _read(recordings, "speech", piece, sample_rate, dtype, source.speed)
        samples *= dtype(gain / np.sqrt(level))
        parts += [np.zeros(round(piece.pause * sample_rate), dtype), samples]
    samples = np.concatenate(parts)
    if np.dot(samples, samples) <= SILENCE * len(samples):
        raise _silent(source)
    samples = _fill_up(samples, frames)
    if source.equaliser:
        samples = equalise(samples, source.equaliser, sample_rate)
    if source.room:
        samples = _in_room(samples, source.room, sample_rate, recordings)
    return samples


def _as_recordings(recordings: str | Path | Mapping) -> Mapping:
    """Read all kinds of recordings from their files where a folder is given."""
    if isinstance(recordings, (str, Path)):
        return dict.fromkeys(KINDS, FileRecordings(recordings))
    return recordings


def _read(recordings, kind, piece, sample_rate, dtype, speed=1.0):
    """Read a piece at a rate. To play it faster, it is taken for one of a higher rate."""
    samples, own_rate = recordings[kind].read(piece.path, piece.start, piece.frames)
    return resample(samples.astype(dtype), round(own_rate * speed), sample_rate)


def _fill_up(samples, frames):
    """Append zeros, if there are fewer samples."""
    return np.pad(samples, (0, frames - len(samples))) if len(samples) < frames else samples


def _in_room(samples, room, sample_rate, recordings):
    """Put speech into a room; its length stays the same.

    The impulse response is scaled to an energy of 1, and its loudest path arrives without delay.
    """
    response = _read(recordings, "rooms", Piece(room), sample_rate, samples.dtype.type)
    energy = np.dot(response, response)
    if energy == 0:
        raise UserError(f"{room}: the impulse response is silent; leave it out")
    direct = int(np.argmax(np.abs(response)))
    return fftconvolve(samples, response / np.sqrt(energy))[direct : direct + len(samples)]


def _render_noise(plan, sources, sample_rate, recordings):
    """Render noise [T] at its ratio of mean powers to the sources' sum; silent noise stays so."""
    speech, dtype = sources.sum(axis=0), sources.dtype.type
    parts = []
    for piece in plan.noise:
        parts += [np.zeros(round(piece.pause * sample_rate), dtype),
                  _read(recordings, "noises", piece, sample_rate, dtype)]
    noise = _fill_up(np.concatenate(parts), len(speech))[: len(speech)]
    power = np.mean(noise**2)
    if power == 0:
        return noise
    return noise * np.sqrt(np.mean(speech**2) / power) * dtype(10 ** (-plan.noise_snr_db / 20))


def _silent(source, where=""):
    """Return the error of a source that should speak."""
    paths = ", ".join(piece.path for piece in source.pieces)
    return UserError(f"{where}{source.speaker} ({paths}) is silent; leave its files out")
