"""Audio files in and out: mono float32 arrays, whole files or none, one clear line for a bad file.

What libsndfile reads is read (wav, flac, ogg, opus, mp3, uncompressed SPHERE, ...), and headerless
GSM 06.10 (`.gsm`, 8 kHz, as telephone exchanges store it). Files are written aside and renamed: no
one meets half.
"""

import errno
import io
import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError

GSM_RATE, GSM_BYTES, GSM_SAMPLES = 8000, 33, 160  # Hz; a GSM 06.10 frame's bytes and samples
# libsndfile's log of a header that promises more bytes than there are; streams "promise" 2 GiB.
SHORT_DATA = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
UNKNOWN_SIZE = 2**31 - 1 - 4096
SPHERE = b"NIST_1A"  # begins a file whose header of 1024 bytes is lines of "field -type value"


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: rate in Hz, number of samples per channel, number of channels."""

    sample_rate: int
    frames: int
    channels: int

    @property
    def seconds(self):
        """Duration in seconds.

        Example
        -------
        >>> AudioInfo(sample_rate=8000, frames=12000, channels=1).seconds
        1.5
        """
        return self.frames / self.sample_rate


def audio_info(path):
    """Read a file's header alone.

    Arguments
    ---------
    path : str or pathlib.Path
        Audio file.

    Returns
    -------
    AudioInfo

    Raises
    ------
    UserError
        The file is missing, a folder, empty, not audio, or shorter than its header promises.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> write_audio(path, np.zeros(400), 8000)
    >>> audio_info(path)
    AudioInfo(sample_rate=8000, frames=400, channels=1)
    """
    with _open(path) as (_, info):
        return info


def read_audio(path, sample_rate=None, channel="mean", start=0, frames=None):
    """Read a file, or a piece of it, as one channel.

    Arguments
    ---------
    path : str or pathlib.Path
        Audio file.
    sample_rate : int or None
        Wanted rate in Hz (see `papez_lobes.data.resampling`); None keeps the file's, which
        `audio_info` tells.
    channel : "mean" or int
        The average of all channels, or the index of the one to take.
    start, frames : int, int or None
        The piece to read, in samples of the file's own rate, as far as there are any.

    Returns
    -------
    numpy.ndarray
        [T], float32; full scale is 1 for integer formats.

    Raises
    ------
    UserError
        As `audio_info`, and: no such channel, nothing in the piece, NaN or infinite samples.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, np.tile([0.5, 0.25], (16000, 1)), 16000)
    >>> samples = read_audio(path, sample_rate=8000)
    >>> samples.shape, round(float(samples[4000]), 3)
    ((8000,), 0.375)
    """
    with _open(path) as (file, info):
        if isinstance(channel, int) and not 0 <= channel < info.channels:
            raise UserError(f"{path}: has {info.channels} channel(s), so no channel {channel}")
        wanted = info.frames - start if frames is None else min(frames, info.frames - start)
        samples = _decode(path, file, start, wanted)
    if samples.size == 0:
        raise UserError(f"{path}: holds no samples (from sample {start}); leave this file out")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds NaN or infinite samples; leave this file out")
    if channel == "mean" and info.channels > 1:
        samples = samples.mean(axis=1)
    else:
        samples = samples[:, 0 if channel == "mean" else channel]
    return samples if sample_rate is None else resample(samples, info.sample_rate, sample_rate)


def to_int16(samples):
    """Round to 16-bit integers as WSJ0-mix does, round(2**15 x); what exceeds them is clipped.

    Example
    -------
    >>> to_int16(np.array([0.5, 1.0, -1.5, 0.9 / 32768])).tolist()
    [16384, 32767, -32768, 1]
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * 32768)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def write_audio(path, samples, sample_rate, subtype="PCM_16"):
    """Write one channel; the file appears whole or not at all.

    Arguments
    ---------
    path : str or pathlib.Path
        Its suffix names the format (wav, flac, ...); missing parent folders are made.
    samples : numpy.ndarray
        [T], float; full scale is 1.
    sample_rate : int
        In Hz.
    subtype : str
        "PCM_16" (rounded to nearest, clipped at full scale, no dither) or another of
        libsndfile's, such as "FLOAT", which keeps float32 samples as they are.

    Raises
    ------
    ValueError
        `samples` is not one-dimensional, or holds NaN or infinite values.
    UserError
        The suffix is unknown, or the folder or disk cannot be written to.

    Example
    -------
    >>> path = getfixture("tmp_path") / "new folder" / "a.wav"
    >>> write_audio(path, np.array([0.5, 2.0]), 8000)
    >>> read_audio(path).tolist()
    [0.5, 0.999969482421875]
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"{path}: samples must be [T] and finite, not {list(samples.shape)}")
    audio_format = Path(path).suffix[1:].upper()
    if not soundfile.check_format(audio_format, subtype):
        raise UserError(f"{path}: cannot write {subtype} to this kind of file; use the suffix .wav")
    if subtype == "PCM_16":
        samples = to_int16(samples)
    encoded = io.BytesIO()  # libsndfile reports no full disk: let Python write the bytes
    soundfile.write(encoded, samples, sample_rate, subtype=subtype, format=audio_format)
    write_bytes(path, encoded.getbuffer())


def write_bytes(path, content):
    """Write bytes to a hidden `.tmp` file, then rename it: the file appears whole or not at all.

    Missing parent folders are made. Raises UserError where the folder or disk is not writable.

    Example
    -------
    >>> path = getfixture("tmp_path") / "plans" / "tr.jsonl"
    >>> write_bytes(path, b"{}"), [file.name for file in path.parent.iterdir()]
    (None, ['tr.jsonl'])
    """
    path = Path(path)
    aside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); choose another folder or make room"
        raise UserError(f"{path}: {reason}") from error


@contextmanager
def _open(path):
    """Yields (file, AudioInfo); file is None for GSM, which has no header."""
    size, head = _begin(path)
    if Path(path).suffix.lower() == ".gsm":
        yield None, _gsm_info(path, size, head)
        return
    sphere = _sphere_fields(path, head)
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise _damaged(path, "not an audio file, or a damaged one", error) from error
    with file:
        for promised, present in SHORT_DATA.findall(file.extra_info):
            if int(present) < int(promised) < UNKNOWN_SIZE:
                raise _truncated(path, f"{present} of {promised} bytes of audio")
        promised = sphere.get("sample_count", "")
        if promised.isdecimal() and file.frames < int(promised):
            raise _truncated(path, f"{file.frames} of {promised} samples")
        yield file, AudioInfo(file.samplerate, file.frames, file.channels)


def _damaged(path, verdict, error):
    return UserError(f"{path}: {verdict} ({error.error_string.rstrip('.')}); leave it out")


def _truncated(path, detail):
    return UserError(f"{path}: is truncated ({detail}); copy it again or leave it out")


def _begin(path):
    """(size, first 1024 bytes) of a file that opens and is not empty; otherwise a UserError."""
    try:
        with open(path, "rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(1024)
    except OSError as error:
        known = {errno.ENOENT: "no such file", errno.EISDIR: "is a folder"}
        reason = known.get(error.errno, f"cannot be read ({error.strerror})")
        raise UserError(f"{path}: {reason}; name an audio file") from error
    if size == 0:
        raise UserError(f"{path}: is empty; leave it out")
    return size, head


def _sphere_fields(path, head):
    """A SPHERE header's fields; none for other files, a UserError for compressed speech."""
    if not head.startswith(SPHERE):
        return {}
    lines = head.decode("ascii", errors="replace").splitlines()
    fields = {words[0]: words[-1] for words in map(str.split, lines) if len(words) == 3}
    if "," in fields.get("sample_coding", ""):  # such as pcm,embedded-shorten-v2.00
        raise UserError(f"{path}: is compressed SPHERE ({fields['sample_coding']}), as WSJ0 is "
                        f"distributed; convert it with `sph2pipe -f wav IN.wv1 OUT.wav`")
    return fields


def _gsm_info(path, size, head):
    if head[0] >> 4 != 0b1101:  # with which every GSM 06.10 frame begins
        raise UserError(f"{path}: not an audio file (nor GSM 06.10 inside); leave it out")
    if size % GSM_BYTES:
        raise _truncated(path, "its last GSM frame is not whole")
    return AudioInfo(GSM_RATE, size // GSM_BYTES * GSM_SAMPLES, 1)


def _decode(path, file, start, frames):
    """[frames, channels], float32; a decoder that stops early means a truncated file."""
    if frames <= 0:
        return np.zeros((0, 1), dtype=np.float32)
    try:
        if file is None:  # GSM cannot be sought in: decode from the beginning
            samples, _ = soundfile.read(
                path, frames=start + frames, dtype="float32", always_2d=True,
                samplerate=GSM_RATE, channels=1, format="RAW", subtype="GSM610",
            )
            samples = samples[start:]
        else:
            file.seek(start)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _damaged(path, "is damaged or truncated", error) from error
    if len(samples) < frames:
        raise _truncated(path, f"{len(samples)} of {frames} samples")
    return samples
