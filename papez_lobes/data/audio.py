"""Audio files: reading to mono float32 arrays, writing, and clear errors for bad files.

Everything that libsndfile reads is read (wav, flac, ogg, opus, mp3, aiff, uncompressed SPHERE,
...), and headerless GSM 06.10 (`.gsm`, 8 kHz, as telephone exchanges store it). A file that is cut
short is refused rather than read as far as it goes.
"""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from papez_lobes.data.containers import SPHERE, describe_content, mp3_flaw, ogg_flaw, truncated
from papez_lobes.data.resampling import resample
from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes

GSM_RATE, GSM_BYTES, GSM_SAMPLES = 8000, 33, 160  # Hz; bytes and samples of a GSM 06.10 frame
# libsndfile's log of a header that promises more bytes, or frames, than there are.
SHORT_DATA = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)[ :]*(\d+) \(?should be (\d+)", re.MULTILINE
)
PROMISED_FRAMES = re.compile(r"^\s*Frames\s*:\s*(\d+)$", re.MULTILINE)
UNKNOWN_SIZE = 0x7F000000  # bytes, or more: what writers to a pipe "promise"
UNKNOWN_FRAMES = 2**62  # or more: a flac that was written to a pipe


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: rate in Hz, number of samples per channel, number of channels."""

    sample_rate: int
    frames: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration in seconds.

        Example
        -------
        >>> AudioInfo(sample_rate=8000, frames=12000, channels=1).seconds
        1.5
        """
        return self.frames / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
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
        The file is missing, a folder, empty, without samples, not audio, or shorter than its
        header promises.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> write_audio(path, np.zeros(400), 8000)
    >>> audio_info(path)
    AudioInfo(sample_rate=8000, frames=400, channels=1)
    """
    with _open(path) as (_, info):
        if info.frames == 0:
            raise UserError(f"{path}: holds no samples; leave it out")
        return info


def read_audio(
    path: str | Path, sample_rate: int | None = None, channel: str | int = "mean", start: int = 0,
    frames: int | None = None,
) -> np.ndarray:
    """Read a file, or a piece of it, as one channel.

    Arguments
    ---------
    path : str or pathlib.Path
        Audio file.
    sample_rate : int or None
        Wanted rate in Hz, see `papez_lobes.data.resampling`. None keeps the file's rate.
    channel : "mean" or int
        The average of all channels, or the index of the one to take.
    start, frames : int, int or None
        The piece to read, in samples at the file's own rate. It ends where the file ends.

    Returns
    -------
    numpy.ndarray
        [T], float32; full scale is 1 for integer formats.

    Raises
    ------
    UserError
        As for `audio_info`, or there is no such channel, the piece is empty, or it holds NaN or
        infinite samples.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, np.tile([0.5, 0.25], (16000, 1)), 16000)
    >>> samples = read_audio(path, sample_rate=8000)
    >>> samples.shape, round(float(samples[4000]), 3)
    ((8000,), 0.375)
    """
    with _open(path, check_end=frames is None) as (file, info):
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


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round samples to 16-bit integers, round(2**15 x) as WSJ0-mix does, and clip them.

    Example
    -------
    >>> to_int16(np.array([0.5, 1.0, -1.5, 0.9 / 32768])).tolist()
    [16384, 32767, -32768, 1]
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * 32768)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def write_audio(
    path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16",
    sync: bool = True,
) -> None:
    """Write one channel. The file appears whole or not at all.

    Arguments
    ---------
    path : str or pathlib.Path
        File to write. Its suffix names the format (wav, flac, ...); missing parent folders are
        made.
    samples : numpy.ndarray
        [T], float; full scale is 1.
    sample_rate : int
        In Hz.
    subtype : str
        "PCM_16" (rounded to nearest, clipped at full scale, no dither) or another of
        libsndfile's, such as "FLOAT", which keeps float32 samples as they are.
    sync : bool
        See `papez_lobes.files.write_bytes`.

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
    write_bytes(path, encoded.getbuffer(), sync)


@contextmanager
def _open(
    path: str | Path, check_end: bool = True
) -> Iterator[tuple[soundfile.SoundFile | None, AudioInfo]]:
    """Yield an open file and its header. The file is None for GSM, which has no header.

    Whether an Ogg or MP3 file is whole takes a look at its end, or at all of it, which is left
    out where a piece is read.
    """
    size, head = _first_bytes(path)
    content = describe_content(head)
    if content:
        raise UserError(f"{path}: not an audio file but {content}")
    if Path(path).suffix.lower() == ".gsm":
        yield None, _gsm_info(path, size, head)
        return
    sphere = _sphere_fields(path, head)
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise _damaged(path, "not an audio file, or a damaged one", error) from error
    except TypeError as error:  # a suffix of headerless audio, such as .raw
        raise UserError(f"{path}: has no header that tells its rate; convert it to .wav") from error
    with file:
        if file.format == "RAW":  # libsndfile's guess at any content under .au, .snd or .vox
            raise UserError(f"{path}: not an audio file, or one without a header; leave it out")
        flaw = _header_flaw(file, sphere)
        if check_end and file.format == "OGG":
            flaw = flaw or ogg_flaw(path)
        elif check_end and file.format == "MP3":
            flaw = flaw or mp3_flaw(path, file.frames)
        if flaw:
            raise UserError(f"{path}: {flaw}")
        yield file, AudioInfo(file.samplerate, file.frames, file.channels)


def _first_bytes(path: str | Path) -> tuple[int, bytes]:
    """Size and first 1024 bytes of a file that can be opened and is not empty."""
    try:
        with open(path, "rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(1024)
    except OSError as error:
        known = {errno.ENOENT: "no such file", errno.EISDIR: "is a folder"}
        reason = known.get(error.errno, f"cannot be read ({error.strerror})")
        if error.errno == errno.ENOENT and os.path.islink(path):
            reason = "is a link to a file that is not there"
        raise UserError(f"{path}: {reason}; name an audio file") from error
    except ValueError as error:  # a NUL character
        raise UserError(f"{path!r}: cannot be a path; name an audio file") from error
    if size == 0:
        raise UserError(f"{path}: is empty; leave it out")
    return size, head


def _header_flaw(file: soundfile.SoundFile, sphere: dict[str, str]) -> str | None:
    """Tell whether a file holds less than its header promises."""
    for promised, present in SHORT_DATA.findall(file.extra_info):
        if int(present) < int(promised) < UNKNOWN_SIZE:
            return truncated(f"{present} of {promised} bytes of audio")
    for promised in [*PROMISED_FRAMES.findall(file.extra_info), sphere.get("sample_count", "")]:
        if promised.isdecimal() and file.frames < int(promised) < UNKNOWN_SIZE // 4:
            return truncated(f"{file.frames} of {promised} samples")
    if "truncated file" in file.extra_info:
        return truncated("it ends before its last block does")
    if file.frames >= UNKNOWN_FRAMES:
        return "does not state its length, as flac written to a pipe; convert it to .wav"
    return None


def _damaged(path: str | Path, verdict: str, error: soundfile.LibsndfileError) -> UserError:
    return UserError(f"{path}: {verdict} ({error.error_string.rstrip('.')}); leave it out")


def _sphere_fields(path: str | Path, head: bytes) -> dict[str, str]:
    """The fields of a SPHERE header, {} for another file. Refuses compressed speech."""
    if not head.startswith(SPHERE):
        return {}
    lines = head.decode("ascii", errors="replace").splitlines()
    fields = {words[0]: words[-1] for words in map(str.split, lines) if len(words) == 3}
    if "," in fields.get("sample_coding", ""):  # such as pcm,embedded-shorten-v2.00
        raise UserError(f"{path}: is compressed SPHERE ({fields['sample_coding']}), as WSJ0 is "
                        f"distributed; convert it with `sph2pipe -f wav IN.wv1 OUT.wav`")
    return fields


def _gsm_info(path: str | Path, size: int, head: bytes) -> AudioInfo:
    if head[0] >> 4 != 0b1101:  # with which every GSM 06.10 frame begins
        raise UserError(f"{path}: not an audio file (nor GSM 06.10 inside); leave it out")
    if size % GSM_BYTES:
        raise UserError(f"{path}: {truncated('its last GSM frame is not whole')}")
    return AudioInfo(GSM_RATE, size // GSM_BYTES * GSM_SAMPLES, 1)


def _decode(
    path: str | Path, file: soundfile.SoundFile | None, start: int, frames: int
) -> np.ndarray:
    """Decode a piece to [frames, channels], float32. Refuses a file whose decoder stops early."""
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
        flaw = truncated(f"{len(samples)} of {frames} samples")
        raise UserError(f"{path}: {flaw}")
    return samples
