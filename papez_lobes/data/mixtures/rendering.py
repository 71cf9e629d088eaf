"""From the plan of a mixture to its samples, by WSJ0-mix's rules.

Files, training items and benchmarks all come from `render`.
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from papez_lobes.data.audio import audio_info, read_audio
from papez_lobes.data.lookup import find_audio
from papez_lobes.data.mixtures.levels import active_speech_level
from papez_lobes.data.mixtures.plans import Piece
from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError

PEAK = 0.9  # of the loudest sample in the mixture and its sources, as in WSJ0-mix
LEVEL_RATE = 8000  # Hz, at which levels are measured whatever the rate of the mixture
SILENCE = 2.0**-30  # power of one step of 16 bit: what is not louder has no level to go by


def render(plan, sample_rate, root, version="min", read=None):
    """Make the samples of a plan.

    Arguments
    ---------
    plan : MixturePlan
    sample_rate : int
        In Hz; files of another rate are resampled. Gains do not depend on it: they are set over
        the level at 8 kHz, as in WSJ0-mix.
    root : str or pathlib.Path
        The folder that the plan's paths are below.
    version : "min" or "max"
        Cut to the shortest source, or fill up with zeros to the longest.
    read : callable, optional
        (kind, path, start, frames) -> ([T] samples, their rate in Hz), for recordings that are at
        hand in another way than in files below `root`; kind is "speech", "noises" or "rooms".

    Returns
    -------
    mixture : numpy.ndarray
        [T], float64: the sum of the sources, and of the noise if there is any.
    sources : numpy.ndarray
        [T, C], float64. The largest absolute sample of mixture and sources together is 0.9.

    Raises
    ------
    UserError
        A file cannot be read, or a source is silent and thus has no level.
    """
    parts = [render_source(source, sample_rate, root, read) for source in plan.sources]
    length = {"min": min, "max": max}[version](map(len, parts))
    if plan.seconds is not None:
        length = min(length, round(plan.seconds * sample_rate))
    sources = np.zeros((len(parts), length))  # [C, T]: sums over C are quick so
    for row, part in zip(sources, parts):
        row[: len(part)] = part[:length]
    noise = 0.0
    if plan.noise:
        noise = _render_noise(plan, sources, sample_rate, read or partial(_read_file, root))
    peak = max(np.abs(sources).max(), np.abs(sources.sum(axis=0) + noise).max())
    if peak == 0:  # all that was audible was cut off
        raise UserError(f"{plan.name}: {_heard(plan.sources[0])} is silent; leave its files out")
    sources *= PEAK / peak
    return sources.sum(axis=0) + noise * (PEAK / peak), sources.T


def render_source(source, sample_rate, root, read=None):
    """String a source's pieces together at its gain over an active level of 1: [T], float64."""
    recordings, room = record_source(source, read or partial(_read_file, root))
    samples = _in_room(_string(recordings, sample_rate), room, sample_rate)
    narrow = samples
    if sample_rate != LEVEL_RATE:
        narrow = _in_room(_string(recordings, LEVEL_RATE), room, LEVEL_RATE)
    power, _ = active_speech_level(narrow, LEVEL_RATE)
    if power <= SILENCE:
        raise UserError(f"{Path(root)}: {_heard(source)} is silent; leave its files out")
    return samples * 10 ** (source.gain_db / 20) / np.sqrt(power)


def record_source(source, read):
    """What a source is made of: recordings (see `record`) of its pieces, and of its room or None;
    `read` as for `render`."""
    room = record("rooms", [Piece(source.room)], read) if source.room else None
    return record("speech", source.pieces, read, source.speed), room


def _in_room(samples, room, sample_rate):
    """Speech as heard in a room, as long as it was; its loudest path arrives without delay."""
    if room is None:
        return samples
    response = _string(room, sample_rate)
    direct = int(np.argmax(np.abs(response)))
    return fftconvolve(samples, response)[direct : direct + len(samples)]


def _render_noise(plan, sources, sample_rate, read):
    """[T]: noise at its SNR, of mean powers, to the sum of the sources; silence stays silence."""
    speech = sources.sum(axis=0)
    noise = _string(record("noises", plan.noise, read), sample_rate)
    noise = np.pad(noise, (0, max(0, len(speech) - len(noise))))[: len(speech)]
    power = np.mean(noise**2)
    if power == 0:
        return noise
    return noise * np.sqrt(np.mean(speech**2) / power) * 10 ** (-plan.noise_snr_db / 20)


def _read_file(root, kind, path, start, frames):
    file = find_audio(root, path)
    return read_audio(file, start=start, frames=frames), audio_info(file).sample_rate


def record(kind, pieces, read, speed=1.0):
    """Of each piece (seconds of silence before it, its samples in float64, their rate in Hz); a
    recording played faster is one of a higher rate."""
    recordings = []
    for piece in pieces:
        samples, rate = read(kind, piece.path, piece.start, piece.frames)
        recordings.append((piece.pause, samples.astype(np.float64), round(rate * speed)))
    return recordings


def _string(recordings, sample_rate):
    parts = []
    for pause, samples, own_rate in recordings:
        parts += [np.zeros(round(pause * sample_rate)), resample(samples, own_rate, sample_rate)]
    return np.concatenate(parts)


def _heard(source):
    return f"{source.speaker} ({', '.join(piece.path for piece in source.pieces)})"
