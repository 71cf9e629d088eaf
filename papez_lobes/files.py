"""Files on disk: written whole or not at all, and fingerprints that show when they have changed."""

import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from papez_lobes.errors import UserError

# of torch.save, where a disk is full
TORCH_ERRORS = ("PytorchStreamWriter", "unexpected pos", "iostream error")


def write_bytes(path: str | Path, content: bytes | memoryview, sync: bool = True) -> None:
    """Write a file that appears whole or not at all.

    The content goes to a hidden `.tmp` file in the same folder, which is then renamed.

    Arguments
    ---------
    path : str or pathlib.Path
        File to write; missing parent folders are made, and an existing file is replaced.
    content : bytes or memoryview
        What the file holds.
    sync : bool
        Wait until the disk holds the file, so that a power cut leaves the old file or the new
        one. This takes several milliseconds a file; pass False for large numbers of files that
        can be made again.

    Raises
    ------
    UserError
        The folder or the disk cannot be written to.

    Example
    -------
    >>> path = getfixture("tmp_path") / "plans" / "tr.jsonl"
    >>> write_bytes(path, b"{}")
    >>> [file.name for file in path.parent.iterdir()]
    ['tr.jsonl']
    """
    path = Path(path)
    aside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


@contextmanager
def writing(path: str | Path, option: str = "folder") -> Iterator[None]:
    """Turn the errors of writing a file into a UserError of one line, which names the option."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another {option} or "
                        "make room") from error


def disk_problem(error: Exception) -> str | None:
    """Why a disk did not take a file, by the error that it caused; None if it says something else.

    torch.save raises a RuntimeError of its own where a disk is full.

    Example
    -------
    >>> disk_problem(OSError(28, "No space left on device"))
    'No space left on device'
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if any(text in str(error) for text in TORCH_ERRORS):
        return "the disk is full, or a file was cut short"
    return None


def sync_files(folder: Path) -> None:
    """Wait until the disk holds all files of a folder, before it is renamed."""
    for path in folder.iterdir():
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())


def png_bytes(figure) -> bytes:
    """A figure of matplotlib's as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def sync_folder(folder: Path) -> None:
    """Make the renaming last. Windows and some network file systems cannot, and do without."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_existing(overwrite: bool, *paths: str | Path | None) -> None:
    """Raise UserError for a path that exists, unless it may be replaced; None is no path.

    An empty folder does not count, as nothing in it can be lost.

    Example
    -------
    >>> refuse_existing(False, None, "/")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: /: exists; name another, or replace it by --overwrite
    """
    for path in paths:
        if path is None or overwrite or not os.path.lexists(path):
            continue
        if not Path(path).is_dir() or any(Path(path).iterdir()):
            raise UserError(f"{path}: exists; name another, or replace it by --overwrite")


def has_content(path: str | Path) -> bool:
    """Tell whether a file exists and is not empty, as a power cut can leave unsynced files."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def fingerprint(settings: object, files: Iterable[str | Path]) -> str:
    """Hash settings together with the paths, sizes and modification times of files.

    Settings are anything that JSON holds. Files come in an order that does not change by itself,
    and a missing one counts as such. The result has 32 hexadecimal digits.

    Example
    -------
    >>> file = getfixture("tmp_path") / "a.wav"
    >>> before = fingerprint({"sample_rate": 8000}, [file])
    >>> _ = file.write_bytes(b"something")
    >>> fingerprint({"sample_rate": 8000}, [file]) == before
    False
    """
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for file in files:
        try:
            status = os.stat(file)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(os.fsencode(file) + f" {state}\n".encode())
    return digest.hexdigest()
