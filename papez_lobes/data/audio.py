"""Audio files: reading to mono float32 arrays, writing, and clear errors for bad files.

Everything that libsndfile reads is read (wav, flac, ogg, opus, mp3, aiff, uncompressed SPHERE,
...), headerless GSM 06.10 (`.gsm`, 8 kHz, as telephone exchanges store it), and through ffmpeg,
where it is installed, m4a, mp4, webm, wma and others. A file that is cut short is refused rather
than read as far as it goes, unless `open_audio` is told to keep what is there.
"""

import errno
import io
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from papez_lobes.data import containers
from papez_lobes.data.containers import truncated
from papez_lobes.data.ffmpeg import FfmpegFile
from papez_lobes.data.resampling import Resampler, resample
from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes

GSM_RATE, GSM_BYTES = 8000, 33  # Hz; bytes of a GSM 06.10 frame
# libsndfile's log of a header that promises more bytes, or frames, than there are.
SHORT_DATA = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)[ :]*(\d+) \(?should be (\d+)", re.MULTILINE
)
PROMISED_FRAMES = re.compile(r"^\s*Frames\s*:\s*(\d+)$", re.MULTILINE)
UNKNOWN_SIZE = 0x7F000000  # bytes, or more: what writers to a pipe "promise"
UNKNOWN_FRAMES = 2**62  # or more: a flac that was written to a pipe
BLOCK = 2**16  # samples of all channels that are read at a time
FLOATS = ("FLOAT", "DOUBLE")  # subtypes that hold samples beyond full scale

Source = str | os.PathLike | bytes | BinaryIO


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: rate in Hz, number of samples per channel, number of channels.

    `frames` is None where only decoding tells the length, and `open_audio` does not wait for that.
    """

    sample_rate: int
    frames: int | None
    channels: int

    @property
    def seconds(self) -> float | None:
        """Duration in seconds."""
        return None if self.frames is None else self.frames / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
    """Read a file's header, or decode what only ffmpeg reads, as its headers are not exact.

    Raises UserError if the file is missing, a folder, empty, without samples, not audio, or shorter
    than its header promises.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> write_audio(path, np.zeros(400), 8000)
    >>> audio_info(path), audio_info(path).seconds
    (AudioInfo(sample_rate=8000, frames=400, channels=1), 0.05)
    """
    with _open(path) as audio:
        info = audio.info
        if info.frames is None:
            frames = sum(len(block) for block in audio.blocks())
            info = AudioInfo(info.sample_rate, frames, info.channels)
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
        [T], float32; full scale is 1 for integer formats. UserError as for `audio_info`, or if
        there is no such channel, the piece is empty, or it holds NaN or infinite samples.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, np.tile([0.5, 0.25], (16000, 1)), 16000)
    >>> samples = read_audio(path, sample_rate=8000)
    >>> samples.shape, round(float(samples[4000]), 3)
    ((8000,), 0.375)
    """
    with _open(path, check_end=frames is None, channel=channel) as audio:
        samples = audio.piece(start, frames)
    if samples.size == 0:
        raise UserError(f"{path}: holds no samples (from sample {start}); leave this file out")
    return resample(samples, audio.info.sample_rate, sample_rate or audio.info.sample_rate)


class AudioReader:
    """A recording that is read in blocks; see `open_audio`.

    `name` is what messages call it, and `info` its rate, length and channels as it is stored.
    `seconds` is the duration by the header, or None, for progress bars; it may be wrong by some
    milliseconds for what ffmpeg reads. `frames_read` counts the samples per channel that have been
    read so far. `flaw` says what is missing, or is None; it is known after the last block at the
    latest.
    """

    def __init__(
        self, name: str, decoder: "_SoundFile | FfmpegFile", flaw: str | None = None,
        sample_rate: int | None = None, channel: str | int = "mean", keep: bool = False,
    ) -> None:
        unknown = decoder.frames is None or decoder.frames >= UNKNOWN_FRAMES
        frames = None if unknown else decoder.frames
        self.name, self.flaw = name, flaw
        self.info = AudioInfo(decoder.samplerate, frames, decoder.channels)
        self.sample_rate = sample_rate or self.info.sample_rate
        self.seconds = self.info.seconds or getattr(decoder, "seconds", None) or None
        self.frames_read = 0
        self._decoder, self._channel, self._keep = decoder, channel, keep
        if channel != "mean" and not 0 <= channel < decoder.channels:
            raise UserError(f"{name}: has {decoder.channels} channel(s), so no channel {channel}")
        self._refuse_flaw()

    def blocks(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Read to the end, `frames` samples at a time, at the recording's own rate.

        By default these are about 65,000 of all channels together. Yields arrays [n], float32 and
        not empty, at `sample_rate`. In a row they equal `read_audio` of the whole recording, to
        1e-6 of its peak where the rate changes. Raises UserError if the recording holds NaN or
        infinite samples, or none, or is truncated or damaged.
        """
        resampler = Resampler(self.info.sample_rate, self.sample_rate)
        for piece in self._pieces(frames):
            block = resampler.feed(self._one_channel(piece, self.frames_read - len(piece)))
            if block.size:
                yield block
        if self.frames_read == 0:
            raise UserError(f"{self.name}: holds no samples; leave it out")
        rest = resampler.flush()
        if rest.size:
            yield rest

    def piece(self, start: int, frames: int | None) -> np.ndarray:
        """Read `frames` samples [n] from `start`, or as far as there are any, at its own rate."""
        known = self.info.frames
        if known is not None:
            frames = known - start if frames is None else min(frames, known - start)
            if frames <= 0:
                return np.zeros(0, dtype=np.float32)
            if self._decoder.format != "RAW":  # the others are decoded from their beginning
                samples, error = self._decode(frames, start)
                if error:
                    raise UserError(f"{self.name}: is damaged or truncated "
                                    f"({error.error_string.rstrip('.')}); leave it out") from error
                self._note_missing(start + len(samples), start + frames)
                return self._one_channel(samples, start)
        end = sys.maxsize if frames is None else start + frames
        kept = [np.zeros(0, dtype=np.float32)]
        for piece in self._pieces():
            position = self.frames_read - len(piece)
            wanted = piece[max(0, start - position) : max(0, end - position)]
            kept.append(self._one_channel(wanted, max(start, position)))
            if self.frames_read >= end:
                break
        return np.concatenate(kept)

    def _pieces(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Decode to the end: pieces [n, channels]. Finds out what is missing."""
        frames = frames or max(1, BLOCK // self.info.channels)
        error = None
        while error is None:
            piece, error = self._decode(frames)
            self.frames_read += len(piece)
            if not len(piece):
                break
            yield piece
        if self.info.frames is not None:
            self._note_missing(self.frames_read, self.info.frames)
        elif isinstance(self._decoder, FfmpegFile):
            self.flaw = self._decoder.flaw()
            self._refuse_flaw()

    def _decode(
        self, frames: int, start: int = 0
    ) -> tuple[np.ndarray, soundfile.LibsndfileError | None]:
        """Decode the next samples, or those from `start`, as far as the end or an error."""
        block = np.full((frames, self.info.channels), np.nan, dtype=np.float32)
        try:
            if start:
                self._decoder.seek(start)
            return block[: self._decoder.buffer_read_into(block, dtype="float32")], None
        except soundfile.LibsndfileError as error:  # it does not say how many were decoded
            decoded = np.flatnonzero(~np.isnan(block[:, 0]))
            return block[: decoded[-1] + 1 if decoded.size else 0], error

    def _one_channel(self, samples: np.ndarray, start: int) -> np.ndarray:
        """Mix [n, channels] down to [n], or choose a channel; `start` is where they begin."""
        finite = np.isfinite(samples)
        if not finite.all():
            seconds = (start + int(finite.all(axis=1).argmin())) / self.info.sample_rate
            raise UserError(f"{self.name}: holds NaN or infinite samples, the first at "
                            f"{seconds:.3f} s; leave this file out")
        if self._channel != "mean":
            return samples[:, self._channel]
        return samples.mean(axis=1) if self.info.channels > 1 else samples[:, 0]

    def _note_missing(self, present: int, promised: int) -> None:
        if present < promised:
            missing = (promised - present) / self.info.sample_rate
            self.flaw = self.flaw or truncated(f"{present} of {promised} samples", missing)
            self._refuse_flaw()

    def _refuse_flaw(self) -> None:
        if self.flaw and not self._keep:
            raise UserError(f"{self.name}: {self.flaw}; copy it again or leave it out")


@contextmanager
def open_audio(
    source: Source, sample_rate: int | None = None, channel: str | int = "mean",
    truncated: str = "refuse",
) -> Iterator[AudioReader]:
    """Open a recording of any length, to be read in blocks within constant memory.

    Arguments
    ---------
    source : str, os.PathLike, bytes or binary file object
        Path of a file, its content, or an open file, which is read from its position. "-" is
        standard input. All but paths are copied to a temporary file first.
    sample_rate, channel
        As for `read_audio`.
    truncated : "refuse" or "keep"
        Whether a recording that is cut short or damaged is an error, or read as far as it goes.
        What is missing is then said in `AudioReader.flaw`.

    Yields
    ------
    AudioReader
        UserError as for `read_audio`. That a recording is truncated may show only at its end.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.full((48000, 2), 0.5), 48000)
    >>> with open_audio(path.read_bytes(), sample_rate=8000) as audio:
    ...     print(audio.info)
    ...     print(sum(len(block) for block in audio.blocks()), audio.flaw)
    AudioInfo(sample_rate=48000, frames=48000, channels=2)
    8000 None
    """
    if truncated not in ("refuse", "keep"):
        raise ValueError(f"truncated must be 'refuse' or 'keep', not {truncated!r}")
    options = {"sample_rate": sample_rate, "channel": channel, "keep": truncated == "keep"}
    with on_disk(source) as (path, name), _open(path, name, stream=True, **options) as audio:
        yield audio


def write_audio(
    path: str | Path, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16",
    sync: bool = True,
) -> None:
    """Write samples as one channel. The file appears whole or not at all.

    Arguments
    ---------
    path : str or pathlib.Path
        Its suffix names the format (wav, flac, ...); missing parent folders are made.
    samples : numpy.ndarray
        [T], float; full scale is 1. ValueError if there is another axis, or NaN or infinite values.
    sample_rate : int
        In Hz.
    subtype : str
        "PCM_16" (rounded to nearest, clipped at full scale, no dither) or another of libsndfile's,
        such as "FLOAT", which keeps float32 samples as they are. Formats without PCM, such as ogg,
        take their own for "PCM_16".
    sync : bool
        See `papez_lobes.files.write_bytes`, also for UserError, which an unknown suffix raises too.

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
    audio_format, subtype = encoding(path, subtype, sample_rate)
    encoded = io.BytesIO()  # libsndfile reports no full disk: let Python write the bytes
    soundfile.write(
        encoded, quantise(samples, subtype), sample_rate, subtype=subtype, format=audio_format
    )
    write_bytes(path, encoded.getbuffer(), sync)


def encoding(path: str | Path, subtype: str, sample_rate: int) -> tuple[str, str]:
    """The format that a suffix names, and the subtype that it takes; UserError if there is none.

    Example
    -------
    >>> encoding("a.flac", "PCM_24", 8000), encoding("a.ogg", "PCM_16", 8000)
    (('FLAC', 'PCM_24'), ('OGG', 'VORBIS'))
    """
    audio_format = Path(path).suffix[1:].upper()
    if audio_format in soundfile.available_formats():
        if subtype == "PCM_16" and not soundfile.check_format(audio_format, subtype):
            subtype = soundfile.default_subtype(audio_format)  # of ogg and mp3, which have no PCM
        with suppress(soundfile.SoundFileError, ValueError):  # formats differ in their rates
            trial = soundfile.SoundFile(io.BytesIO(), "w", sample_rate, 1, subtype,
                                        format=audio_format)
            trial.close()
            return audio_format, subtype
    raise UserError(f"{path}: cannot write {subtype} at {sample_rate} Hz to this kind of file; use "
                    f"the suffix .wav")


def quantise(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Round to the nearest step and clip; libsndfile's own rounding is off by up to one step.

    16 bit are rounded as WSJ0-mix does: round(2**15 x). 24 bit are the upper ones of 32.

    Example
    -------
    >>> quantise(np.array([0.5, 1.0, -1.5, 0.9 / 32768]), "PCM_16").tolist()
    [16384, 32767, -32768, 1]
    """
    if subtype not in ("PCM_16", "PCM_24"):
        return samples if subtype in FLOATS else np.clip(samples, -1, 1)
    full_scale = 2**15 if subtype == "PCM_16" else 2**23
    steps = np.rint(np.asarray(samples, dtype=np.float64) * full_scale)
    steps = np.clip(steps, -full_scale, full_scale - 1)
    return steps.astype(np.int16) if subtype == "PCM_16" else steps.astype(np.int32) << 8


@contextmanager
def on_disk(source: Source) -> Iterator[tuple[Path, str]]:
    """Yield the path of a source and its name in messages. What is no path is copied."""
    if isinstance(source, (str, os.PathLike)) and source != "-":
        name = str(source)
        if not os.path.exists(source) or not Path(source).is_fifo():  # such as /dev/stdin
            yield Path(source), name
            return
        source = open(source, "rb")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        source, name = io.BytesIO(source), "the given bytes"
    elif source == "-":
        source, name = sys.stdin.buffer, "standard input"
        if source.isatty():
            raise UserError("standard input: is a terminal; send an audio file to it")
    else:
        name = source.name if isinstance(getattr(source, "name", None), str) else "the given file"
    if isinstance(source, io.TextIOBase):
        raise TypeError(f"{name}: must be opened in binary mode")
    path = None
    try:
        try:
            descriptor, path = tempfile.mkstemp(suffix=Path(name).suffix)
            with open(descriptor, "wb") as copy:
                shutil.copyfileobj(source, copy)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise UserError(f"{name}: cannot be copied to {folder} ({error.strerror}); set TMPDIR "
                            f"to a folder with room") from error
        yield Path(path), name
    finally:
        if path:
            os.unlink(path)


class _SoundFile(soundfile.SoundFile):
    """A file that libsndfile decodes from beginning to end.

    `soundfile` seeks after each read to where the file is, if it can. This changes the samples
    that Opus decodes next.
    """

    def __init__(self, file: str | Path | int, **options):
        if not isinstance(file, int) and os.name == "posix":
            file = os.fsencode(file)  # `soundfile` refuses names that are not UTF-8
        super().__init__(file, **options)

    def seekable(self) -> bool:
        """False: `soundfile` shall not seek after reading."""
        return False


@contextmanager
def _open(
    path: str | Path, name: str | None = None, check_end: bool = True, stream: bool = False,
    **options,
) -> Iterator[AudioReader]:
    """Open a recording, and refuse what is not one. `options` are those of `AudioReader`.

    With `check_end`, look at its end, or at all of it, for whether an Ogg or MP3 file is whole.
    With `stream` it will be read from beginning to end, so that its length need not be known.
    """
    name = str(path) if name is None else name
    size, head = _first_bytes(path, name)
    content = containers.describe_content(head)
    if content:
        raise UserError(f"{name}: not an audio file but {content}")
    with ExitStack() as stack:
        decoder = stack.enter_context(_decoder(path, name, head))
        flaw = wrong_length = None
        if _is_gsm(path) and size % GSM_BYTES:
            flaw = truncated("its last GSM frame is not whole", 0.02)
        elif isinstance(decoder, _SoundFile):
            flaw = _header_flaw(decoder, _sphere_fields(name, head))
        if decoder.format == "FLAC" and decoder.frames >= UNKNOWN_FRAMES:
            wrong_length = "does not state its length, as flac written to a pipe"
        elif decoder.format == "OGG" and check_end:
            flaw = flaw or containers.ogg_flaw(path)
        elif decoder.format == "MP3" and check_end:
            mp3 = containers.mp3_frames(path)
            flaw = flaw or mp3.flaw(decoder.samplerate)
            if mp3.exceeds(decoder.frames):
                total = mp3.frames * mp3.samples_per_frame
                wrong_length = (f"states no length, or a wrong one, so that {decoder.frames} of "
                                f"{total} samples would be read")
            if stream and (wrong_length or mp3.promised is None) and not mp3.strange:
                decoder = stack.enter_context(_endless_mp3(path, mp3.begin, stack))
        if wrong_length and not flaw and not stream:
            raise UserError(f"{name}: {wrong_length}; convert it to .wav")
        yield AudioReader(name, decoder, flaw, **options)


def _decoder(path, name, head):
    """Open a file with libsndfile, or with ffmpeg."""
    kind = containers.ffmpeg_kind(head, Path(path).suffix)
    if kind:
        return FfmpegFile(Path(path), name, kind)
    if _is_gsm(path):
        if head[0] >> 4 != 0b1101:  # with which every GSM 06.10 frame begins
            raise UserError(f"{name}: not an audio file (nor GSM 06.10 inside); leave it out")
        return _SoundFile(
            path, samplerate=GSM_RATE, channels=1, format="RAW", subtype="GSM610"
        )
    _sphere_fields(name, head)
    try:
        file = _SoundFile(path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise UserError(f"{name}: not an audio file, or a damaged one ({reason}); leave it "
                        f"out") from error
    except TypeError as error:  # a suffix of headerless audio, such as .raw
        raise UserError(f"{name}: has no header that tells its rate; convert it to .wav") from error
    if file.format == "RAW":  # libsndfile's guess at any content under .au, .snd or .vox
        file.close()
        raise UserError(f"{name}: not an audio file, or one without a header; leave it out")
    return file


def _is_gsm(path):
    return Path(path).suffix.lower() == ".gsm"


def _endless_mp3(path, begin, stack):
    """Open an MP3 file behind its first `begin` bytes, as a stream that ends where it ends.

    libsndfile believes a header's length, and estimates it where there is none.
    """
    reading, writing = os.pipe()

    def copy():
        """Write the file into the pipe."""
        with open(path, "rb") as file, suppress(OSError), open(writing, "wb") as pipe:
            file.seek(begin)
            shutil.copyfileobj(file, pipe)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    stack.callback(thread.join, 1)  # a forked process may keep the pipe open
    try:
        return _SoundFile(reading)
    except BaseException:
        os.close(reading)
        raise


def _first_bytes(path: str | Path, name: str) -> tuple[int, bytes]:
    """Size and first 1024 bytes of a file that can be opened and is not empty."""
    try:
        with open(path, "rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(1024)
    except OSError as error:
        known = {errno.ENOENT: "no such file", errno.EISDIR: "is a folder"}
        reason = known.get(error.errno, f"cannot be read ({error.strerror})")
        if error.errno == errno.ENOENT and os.path.islink(path):
            reason = "is a link to a file that is not there"
        raise UserError(f"{name}: {reason}; name an audio file") from error
    except ValueError as error:  # a NUL character
        raise UserError(f"{name!r}: cannot be a path; name an audio file") from error
    if size == 0:
        raise UserError(f"{name}: is empty; leave it out")
    return size, head


def _header_flaw(file: soundfile.SoundFile, sphere: dict[str, str]) -> str | None:
    """Tell whether a file holds less than its header promises."""
    seconds = file.frames / file.samplerate
    for promised, present in SHORT_DATA.findall(file.extra_info):
        if int(present) < int(promised) < UNKNOWN_SIZE:
            missing = seconds * (int(promised) / max(1, int(present)) - 1)
            return truncated(f"{present} of {promised} bytes of audio", missing)
    for promised in [*PROMISED_FRAMES.findall(file.extra_info), sphere.get("sample_count", "")]:
        if promised.isdecimal() and file.frames < int(promised) < UNKNOWN_SIZE // 4:
            missing = (int(promised) - file.frames) / file.samplerate
            return truncated(f"{file.frames} of {promised} samples", missing)
    if "truncated file" in file.extra_info:
        return truncated("it ends before its last block does")
    return None


def _sphere_fields(name: str, head: bytes) -> dict[str, str]:
    """The fields of a SPHERE header, {} for another file. Refuses compressed speech."""
    if not head.startswith(containers.SPHERE):
        return {}
    lines = head.decode("ascii", errors="replace").splitlines()
    fields = {words[0]: words[-1] for words in map(str.split, lines) if len(words) == 3}
    if "," in fields.get("sample_coding", ""):  # such as pcm,embedded-shorten-v2.00
        raise UserError(f"{name}: is compressed SPHERE ({fields['sample_coding']}), as WSJ0 is "
                        f"distributed; convert it with `sph2pipe -f wav IN.wv1 OUT.wav`")
    return fields
