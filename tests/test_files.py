"""Files that are written whole or not at all, whatever happens meanwhile."""

import errno
import os
import resource
import stat
from contextlib import contextmanager

import numpy as np
import pytest

from papez_lobes.data.audio import write_audio
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.files import fingerprint, write_bytes


@contextmanager
def small_disk():
    """No file can become larger than 100 bytes: not pytest's output either, so for a call only."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("sync", [True, False])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, sync):
    path = tmp_path / "a.wav"
    path.write_bytes(b"as it was")
    refused = pytest.raises(UserError, match=r"a\.wav: cannot be written \(File too large\)")
    with refused, small_disk():
        write_audio(path, np.zeros(8000), 8000, sync=sync)
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_a_disk_that_is_full_only_when_synced_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.json"
    path.write_bytes(b"as it was")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    """The disk holds the content before the name changes, and the name before the call returns."""
    steps, fsync, replace = [], os.fsync, os.replace

    def record_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def record_replace(old, new):
        steps.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_bytes(tmp_path / "a.json", b"{}")
    write_bytes(tmp_path / "b.json", b"{}", sync=False)
    assert steps == ["content", "name", "folder", "name"]


def test_a_folder_that_cannot_be_synced_is_no_fault(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, *arguments, **options):
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "as on Windows")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    write_bytes(tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_long_names_are_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".wav")
    write_bytes(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_fingerprint_shows_each_kind_of_change(tmp_path):
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    seen = {fingerprint({"rate": 1}, files)}
    files[0].write_bytes(b"a")
    os.utime(files[0], ns=(1, 1))
    seen.add(fingerprint({"rate": 1}, files))
    os.utime(files[0], ns=(1, 2))
    seen.add(fingerprint({"rate": 1}, files))
    seen.add(fingerprint({"rate": 1}, files[::-1]))
    seen.add(fingerprint({"rate": 2}, files))
    assert len(seen) == 5
    assert fingerprint({"rate": 2}, map(str, files)) in seen


def test_a_full_disk_is_one_line_whatever_is_written(tmp_path, capsys):
    for path in ("/dev/full", tmp_path):
        with pytest.raises((SystemExit, IsADirectoryError)) as ended, one_line_errors("it"):
            with open(path, "w") as stream:
                stream.write("text")
        if path == "/dev/full":
            assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "it: a file: cannot be written (No space left on device); make room and repeat the "
        "command\n")
