"""Recordings and estimates on any file system that fsspec knows, such as s3://bucket/folder."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from papez_lobes.errors import UserError

STANDARD_INPUT = "-"

# An upload to these replaces an object as a whole, once it is complete. Elsewhere a file is
# uploaded beside its place and renamed.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "oss"}


def is_url(name: str | Path) -> bool:
    """Tell URLs from paths on this machine.

    Example
    -------
    >>> is_url("s3://bucket/talk.wav"), is_url("folder/talk.wav")
    (True, False)
    """
    return "://" in str(name)


def list_files(url: str) -> list[str]:
    """List the files below a folder.

    Arguments
    ---------
    url : str
        Of the folder.

    Returns
    -------
    list of str
        Sorted URLs; empty if there is no such folder.

    Raises
    ------
    UserError
        The file system is unknown, or does not answer.
    """
    with _one_line(url, "listed"):
        files, place = _file_system(url)
        root = place.rstrip("/") + "/"
        found = [file for file in map(str, files.find(place)) if file.startswith(root)]
        return sorted(f"{url.rstrip('/')}/{file.removeprefix(root)}" for file in found)


def exists(url: str) -> bool:
    """Tell whether a file exists. UserError if its file system does not answer."""
    with _one_line(url, "reached"):
        files, place = _file_system(url)
        return files.exists(place)


@contextmanager
def fetched(source: str) -> Iterator[str]:
    """A context with a file of this machine that holds a recording.

    Arguments
    ---------
    source : str
        A path, which stays as it is, or a URL, or "-" for standard input, which are copied to a
        temporary file: it may be read twice.

    Raises
    ------
    UserError
        The file cannot be fetched.
    """
    if source == STANDARD_INPUT:
        from papez_lobes.data.audio import on_disk

        with on_disk(source) as (path, _):
            yield str(path)
        return
    if not is_url(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="papez-") as folder:
        path = str(Path(folder, PurePosixPath(source).name))
        with _one_line(source, "read"):
            files, place = _file_system(source)
            files.get_file(place, path)
        yield path


def put(path: str | Path, url: str) -> None:
    """Upload a file, which is then there as a whole or not at all; an existing one is replaced.

    Arguments
    ---------
    path : str or pathlib.Path
        A file of this machine.
    url : str
        Where it goes.

    Raises
    ------
    UserError
        The file cannot be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "talk.wav"
    >>> _ = path.write_bytes(b"RIFF")
    >>> put(path, "memory://out/monday/talk.wav")
    >>> list_files("memory://out"), exists("memory://out/talk.wav")
    (['memory://out/monday/talk.wav'], False)
    """
    with _one_line(url, "written"):
        files, place = _file_system(url)
        protocols = {files.protocol} if isinstance(files.protocol, str) else {*files.protocol}
        if protocols & OBJECT_STORES:
            files.put_file(str(path), place)
            return
        parent = place.rpartition("/")[0]
        aside = f"{parent}/.{secrets.token_hex(8)}.tmp"
        files.makedirs(parent, exist_ok=True)
        try:
            files.put_file(str(path), aside)
            files.mv(aside, place)
        except BaseException:
            if files.exists(aside):
                files.rm_file(aside)
            raise


def _file_system(url):
    """The file system of a URL, and the place in it. Listings are not cached, as others write."""
    from fsspec.core import url_to_fs

    return url_to_fs(url, use_listings_cache=False)


@contextmanager
def _one_line(url, deed):
    """Turn the errors of a file system into one line; each has classes of its own."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{url}: no such file; check its name") from error
    except ImportError as error:
        raise UserError(f"{url}: cannot be {deed}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{url}: cannot be {deed} ({reason}); check the address and its "
                        "credentials") from error
