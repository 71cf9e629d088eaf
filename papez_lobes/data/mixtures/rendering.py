"""Rendering: from the plan of a mixture to its samples, by WSJ0-mix's rules.

Files, training items and benchmarks all come from `render`.
"""

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
SILENCE = 2.0**-30  # power of one step of 16 bit: what is not louder has no level to go by
LEVELS_KEPT = 10_000  # of files, so that a file in many mixtures is measured once


class FileRecordings:
    """Recordings read from their files below a folder; see also
    `papez_lobes.data.dynamic.StoredRecordings`.

    Arguments
    ---------
    root : str or pathlib.Path
        The folder that the paths of plans are below.
    """

    def __init__(self, root):
        self.root = Path(root)

    def read(self, kind: str, path: str, start: int, frames: int | None):
        """Read a piece: ([T] samples, float32, and their rate in Hz); `kind` is "speech", "noises"
        or "rooms"."""
        file = find_audio(self.root, path)
        return read_audio(file, start=start, frames=frames), audio_info(file).sample_rate

    def level(self, path: str) -> float:
        """The active speech level of a whole recording, as a power."""
        return _level_of_file(find_audio(self.root, path))


def _as_recordings(recordings):
    """Recordings of files where a folder is given."""
    return FileRecordings(recordings) if isinstance(recordings, (str, Path)) else recordings


@lru_cache(LEVELS_KEPT)
def _level_of_file(file):
    return speech_level(read_audio(file), audio_info(file).sample_rate)


def render(
    plan: MixturePlan,
    sample_rate: int,
    recordings: "str | Path | FileRecordings",
    version: str = "min",
    dtype: type = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the samples of a plan.

    Each piece of speech is set to the source's gain over the active level of the whole recording
    that it is from (ITU-T P.56, measured at 8 kHz), as WSJ0-mix does with whole recordings. So
    gains are the same at every rate, and a recording is measured once however often it is mixed.

    Arguments
    ---------
    plan : MixturePlan
    sample_rate : int
        In Hz; recordings of another rate are resampled.
    recordings : str, pathlib.Path, FileRecordings or papez_lobes.data.dynamic.StoredRecordings
        The folder that the plan's paths are below, or what reads and measures the recordings.
    version : "min" or "max"
        Cut to the shortest source, or fill up with zeros to the longest.
    dtype : numpy dtype
        Of the arithmetic and the result. float32 is for training, where speed matters.

    Returns
    -------
    mixture : numpy.ndarray
        [T]: the sum of the sources, and of the noise if there is any.
    sources : numpy.ndarray
        [T, C]. The largest absolute sample of mixture and sources together is 0.9.

    Raises
    ------
    UserError
        A file cannot be read, or a source is silent.
    """
    recordings = _as_recordings(recordings)
    parts = [render_source(source, sample_rate, recordings, dtype) for source in plan.sources]
    length = {"min": min, "max": max}[version](map(len, parts))
    if plan.seconds is not None:
        length = min(length, round(plan.seconds * sample_rate))
    sources = np.zeros((len(parts), length), dtype)  # [C, T]: sums over C are quick so
    for row, part in zip(sources, parts):
        row[: len(part)] = part[:length]
    noise = 0.0
    if plan.noise:
        noise = _render_noise(plan, sources, sample_rate, recordings)
    peak = max(np.abs(sources).max(), np.abs(sources.sum(axis=0) + noise).max())
    if peak == 0:  # all that was audible was cut off
        raise UserError(f"{plan.name}: {_describe(plan.sources[0])} is silent; leave its files out")
    sources *= PEAK / peak
    return sources.sum(axis=0) + noise * (PEAK / peak), sources.T


def render_source(
    source: SourcePlan,
    sample_rate: int,
    recordings: "str | Path | FileRecordings",
    dtype: type = np.float64,
) -> np.ndarray:
    """Render one source: its pieces in order, at its gain over an active level of 1.

    Arguments
    ---------
    source, sample_rate, recordings, dtype
        See `render`.

    Returns
    -------
    numpy.ndarray
        [T].

    Raises
    ------
    UserError
        One of its recordings has no active level, or the pieces are silent.
    """
    recordings = _as_recordings(recordings)
    gain = 10 ** (source.gain_db / 20)
    parts = []
    for piece in source.pieces:
        level = recordings.level(piece.path)
        if level <= SILENCE:
            raise UserError(f"{piece.path}: {_describe(source)} is silent; leave its files out")
        samples = _read(recordings, "speech", piece, sample_rate, dtype, source.speed)
        samples *= dtype(gain / np.sqrt(level))
        parts += [np.zeros(round(piece.pause * sample_rate), dtype), samples]
    samples = np.concatenate(parts)
    if np.dot(samples, samples) <= SILENCE * len(samples):
        raise UserError(f"{_describe(source)} is silent; leave its files out")
    if source.equaliser:
        samples = equalise(samples, source.equaliser, sample_rate)
    if source.room:
        samples = _in_room(samples, source.room, sample_rate, recordings)
    return samples


def _read(recordings, kind, piece, sample_rate, dtype, speed=1.0):
    """A piece at the wanted rate; what is played faster is read as of a higher rate."""
    samples, own_rate = recordings.read(kind, piece.path, piece.start, piece.frames)
    return resample(samples.astype(dtype), round(own_rate * speed), sample_rate)


def _in_room(samples, room, sample_rate, recordings):
    """Speech as heard in a room, as long as it was: the impulse response is scaled to an energy of
    1, and its loudest path arrives without delay."""
    response = _read(recordings, "rooms", Piece(room), sample_rate, samples.dtype.type)
    energy = np.dot(response, response)
    if energy == 0:
        raise UserError(f"{room}: the impulse response is silent; leave it out")
    direct = int(np.argmax(np.abs(response)))
    return fftconvolve(samples, response / np.sqrt(energy))[direct : direct + len(samples)]


def _render_noise(plan, sources, sample_rate, recordings):
    """[T]: noise at its SNR, of mean powers, to the sum of the sources; silence stays silence."""
    speech, dtype = sources.sum(axis=0), sources.dtype.type
    noise = np.concatenate([
        part
        for piece in plan.noise
        for part in (np.zeros(round(piece.pause * sample_rate), dtype),
                     _read(recordings, "noises", piece, sample_rate, dtype))
    ])
    noise = np.pad(noise, (0, max(0, len(speech) - len(noise))))[: len(speech)]
    power = np.mean(noise**2)
    if power == 0:
        return noise
    return noise * np.sqrt(np.mean(speech**2) / power) * dtype(10 ** (-plan.noise_snr_db / 20))


def _describe(source):
    return f"{source.speaker} ({', '.join(piece.path for piece in source.pieces)})"
