"""Writing of the tracks of a recording, as they come."""

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from papez_lobes.data.audio import FLOATS, Source, encoding, quantise
from papez_lobes.errors import UserError
from papez_lobes.files import sync_folder, writing

BLOCK = 2**16  # samples per track that are encoded at a time
BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}  # others have at most 8
LARGEST_WAV = 2**32 - 2**16  # bytes of samples; longer files are RF64


class TrackWriter:
    """Writing of the tracks of a recording, one file each, as they come.

    It is a context manager. The files appear at its end, all of them and whole, or none: after an
    exception, Ctrl-C included, nothing is left behind. Memory is constant. Until the end the
    samples lie in a temporary file in the folder of the first track, 4 bytes each.

    Arguments
    ---------
    paths : sequence of str or pathlib.Path
        Files to write, one for each track. Their suffixes name the format: wav (RF64 above 4 GB),
        flac, ogg, and others that libsndfile writes. Missing parent folders are made.
    sample_rate : int
        In Hz.
    subtype : str
        "PCM_16", "PCM_24" or "FLOAT", see `papez_lobes.data.audio.write_audio`.
    clip : "rescale" or "clamp"
        What happens if a track exceeds full scale: all tracks are multiplied by one factor, or
        samples are clipped. "FLOAT" keeps every sample as it is.
    overwrite : bool
        Replace files that exist.
    source : str, os.PathLike, bytes, binary file object or None
        The recording that is separated, as for `open_audio`. It is never overwritten.

    Raises
    ------
    UserError
        A file exists or is the source, its format is unknown, or the folder or disk cannot be
        written to.

    Example
    -------
    >>> paths = [getfixture("tmp_path") / f"a_s{speaker}.wav" for speaker in (1, 2)]
    >>> with TrackWriter(paths, 8000) as writer:
    ...     writer.write(np.array([[0.5, 0.5], [0.25, 2.0]]))
    ...     writer.write(np.array([[0.5], [0.25]]))
    >>> writer.scale, [soundfile.read(path)[0].round(3).tolist() for path in paths]
    (0.5, [[0.25, 0.25, 0.25], [0.125, 1.0, 0.125]])
    """

    def __init__(
        self, paths: Sequence[str | Path], sample_rate: int, subtype: str = "PCM_16",
        clip: str = "rescale", overwrite: bool = False, source: Source | None = None,
    ) -> None:
        if clip not in ("rescale", "clamp"):
            raise ValueError(f"clip must be 'rescale' or 'clamp', not {clip!r}")
        self.paths = [Path(path) for path in paths]
        self.sample_rate, self.clip, self.overwrite = sample_rate, clip, overwrite
        self.scale, self.peak, self.frames = 1.0, 0.0, 0
        self._encodings = [encoding(path, subtype, sample_rate) for path in self.paths]
        for path in self.paths:
            with suppress(OSError):  # one of them is not there
                if isinstance(source, (str, os.PathLike)) and path.samefile(source):
                    raise UserError(f"{path}: is the recording itself; choose another name or "
                                    "folder")
            self._check_free(path)
        if len({path.resolve() for path in self.paths}) < len(self.paths):
            raise UserError(f"{self.paths[0]}: two tracks have the same name; give each its own")
        self._made = []  # folders, and files that are not whole yet
        self._spool = None  # [n, C], float32

    def _check_free(self, path):
        with writing(path):
            if path.is_dir():
                raise UserError(f"{path}: is a folder; choose another name")
        if not self.overwrite and os.path.lexists(path):
            raise UserError(f"{path}: exists; choose another folder, or overwrite it")

    def __enter__(self) -> "TrackWriter":
        try:
            for path in self.paths:
                with writing(path):
                    missing = [folder for folder in path.parents if not folder.exists()]
                    self._made += reversed(missing)
                    path.parent.mkdir(parents=True, exist_ok=True)
            with writing(self.paths[0]):
                self._spool = tempfile.TemporaryFile(dir=self.paths[0].parent)
        except BaseException:
            self._clean_up()
            raise
        return self

    def write(self, estimates: np.ndarray) -> None:
        """Add samples [C, n], float, n >= 0, to all tracks; full scale is 1.

        Raises ValueError if the number of tracks is another, or samples are NaN or infinite, and
        UserError if the disk is full.
        """
        estimates = np.asarray(estimates, dtype=np.float32)
        if estimates.ndim != 2 or len(estimates) != len(self.paths):
            raise ValueError(f"estimates must be [{len(self.paths)}, n], not "
                             f"{list(estimates.shape)}")
        if not np.isfinite(estimates).all():
            raise ValueError(f"{self.paths[0]}: estimates must be finite")
        with writing(self.paths[0]):
            self._spool.write(estimates.T.tobytes())
        self.peak = max(self.peak, float(np.abs(estimates).max(initial=0)))
        self.frames += estimates.shape[1]

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                self._publish(self._encode())
                self._made = []
        finally:
            self._clean_up()

    def _encode(self) -> list[Path]:
        """Write the files beside their places."""
        if self.clip == "rescale" and self.peak > 1:
            self.scale = 1 / self.peak
        asides = []
        for track, (path, (audio_format, subtype)) in enumerate(zip(self.paths, self._encodings)):
            size = self.frames * BYTES_PER_SAMPLE.get(subtype, 8)
            if audio_format == "WAV" and size > LARGEST_WAV:
                audio_format = "RF64"
            scale = np.float32(1 if subtype in FLOATS else self.scale)
            asides.append(path.with_name(f".{secrets.token_hex(8)}.tmp"))
            self._made.append(asides[-1])
            with writing(path), open(asides[-1], "w+b") as file:
                guard = _GuardedFile(file)
                with soundfile.SoundFile(
                    guard, "w", self.sample_rate, 1, subtype, format=audio_format
                ) as encoder:
                    for samples in self._written(track):
                        encoder.write(quantise(samples * scale, subtype))
                        guard.check()
                guard.check()
                file.flush()
                os.fsync(file.fileno())
        return asides

    def _written(self, track: int) -> Iterator[np.ndarray]:
        """The samples of a track in blocks."""
        self._spool.seek(0)
        while content := self._spool.read(4 * len(self.paths) * BLOCK):
            yield np.frombuffer(content, np.float32).reshape(-1, len(self.paths))[:, track]

    def _publish(self, asides):
        placed = []
        try:
            for aside, path in zip(asides, self.paths):
                self._check_free(path)  # another program may have written it
                with writing(path):
                    os.replace(aside, path)
                placed.append(path)
        except BaseException:
            for path in placed:
                path.unlink(missing_ok=True)
            raise
        for folder in {path.parent for path in self.paths}:
            sync_folder(folder)

    def _clean_up(self):
        if self._spool:
            with suppress(OSError):  # what it could not write
                self._spool.close()
        for path in reversed(self._made):
            with suppress(OSError):  # a folder that is in use by now, or was never made
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


class _GuardedFile:
    """A file that libsndfile writes through `soundfile`.

    These report neither a full disk nor Ctrl-C. What is raised is kept until libsndfile has
    returned, which is told that all went well.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.error = file, None

    def write(self, content) -> int:
        return self._try(self.file.write, content) or len(content)

    def read(self, count: int) -> bytes:
        return self._try(self.file.read, count) or b""

    def seek(self, *place: int) -> int:
        return self._try(self.file.seek, *place) or 0

    def tell(self) -> int:
        return self._try(self.file.tell) or 0

    def _try(self, method, *arguments):
        if self.error is None:
            try:
                return method(*arguments)
            except BaseException as error:
                self.error = error
        return None

    def check(self) -> None:
        """Raise what was kept."""
        if self.error is not None:
            raise self.error
