"""URLs in the place of files and folders, on fsspec's file system in memory."""

import json
import sys

import fsspec
import numpy as np
import pytest
import soundfile

from papez_lobes.cli.main import main
from papez_lobes.errors import UserError
from papez_lobes.inference.recordings import find_recordings
from papez_lobes.inference.remote import list_files, put
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez_small")


@pytest.fixture
def talks(tmp_path):
    """Recordings in memory: memory://talks/{a,monday/b}.wav."""
    memory = fsspec.filesystem("memory")
    for number, name in enumerate(("a.wav", "monday/b.wav", ".hidden/c.wav", "notes.md")):
        samples = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(tmp_path / "x.wav", samples, 8000)
        put(tmp_path / "x.wav", f"memory://talks/{name}")
    yield "memory://talks"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def test_urls_are_separated_as_files_are(bundle, talks, tmp_path, capsys):
    words = ["-n", str(bundle), "-d", "cpu"]
    assert main(["separate", talks, "-o", "memory://out", "--plot", *words]) == 0
    assert list_files("memory://out") == [
        "memory://out/a.png", "memory://out/a_s1.wav", "memory://out/a_s2.wav",
        "memory://out/monday/b.png", "memory://out/monday/b_s1.wav", "memory://out/monday/b_s2.wav",
    ]
    assert "memory://out/a_s1.wav" in capsys.readouterr().out
    assert main(["separate", talks, "-o", str(tmp_path / "here"), "--json", *words]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["source"] for line in lines] == [f"{talks}/a.wav", f"{talks}/monday/b.wav"]
    memory = fsspec.filesystem("memory")
    for name in ("a_s1.wav", "monday/b_s2.wav"):
        assert memory.cat(f"/out/{name}") == (tmp_path / "here" / name).read_bytes()


def test_what_exists_is_refused_or_left_out_and_failures_name_the_url(
    bundle, talks, tmp_path, capsys
):
    words = ["-o", "memory://out", "-n", str(bundle), "-d", "cpu"]
    fsspec.filesystem("memory").pipe("/talks/bad.wav", b"not audio")
    assert main(["separate", f"{talks}/a.wav", *words]) == 0
    assert main(["separate", f"{talks}/a.wav", *words]) == 2
    assert "memory://out/a_s1.wav: exists" in capsys.readouterr().err
    assert main(["separate", talks, f"{talks}/missing.wav", "--skip-existing", *words]) == 2
    said = capsys.readouterr().err
    assert "memory://talks/a.wav: left out" in said and "2 of 4 recordings" in said
    assert "memory://talks/bad.wav" in said and "memory://talks/missing.wav: no such file" in said
    assert "/tmp" not in said


def test_a_url_is_never_overwritten_by_its_own_estimate(bundle, talks, tmp_path, capsys):
    fsspec.filesystem("memory").cp_file("/talks/a.wav", "/talks/a1.wav")
    words = ["-o", talks, "--filename", "a{speaker}.{ext}", "--overwrite", "-n", str(bundle)]
    assert main(["separate", f"{talks}/a1.wav", *words]) == 2
    assert "a1.wav: would be overwritten" in capsys.readouterr().err


def test_a_list_names_files_folders_and_urls(talks, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.wav").touch()
    lines = f"{talks}/a.wav\n\n{talks}\n{tmp_path / 'here'}\n"
    (tmp_path / "list.txt").write_text(lines)
    found = find_recordings([tmp_path / "list.txt"])
    assert [recording.source for recording in found] == [
        "memory://talks/a.wav", "memory://talks/monday/b.wav", str(tmp_path / "here/a.wav")]
    assert [recording.track for recording in found] == ["talks/a", "monday/b", "here/a"]
    put(tmp_path / "list.txt", "memory://talks/list.txt")
    assert find_recordings(["memory://talks/list.txt"]) == found
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    assert find_recordings([tmp_path / "windows.txt"]) == found
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(UserError, match=name):
            find_recordings([tmp_path / name])


def test_an_upload_that_fails_leaves_nothing(talks, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "mv", lambda *paths: 1 / 0)
    with pytest.raises(UserError, match=r"memory://talks/x.wav: cannot be written"):
        put(tmp_path / "x.wav", "memory://talks/x.wav")
    assert not [name for name in memory.find("/talks") if "x.wav" in name or ".tmp" in name]


@pytest.mark.parametrize("url, words", [
    ("nothing://a/b.wav", "nothing"), ("memory://none", "no audio files"),
])
def test_mistakes_are_one_line(url, words, bundle, capsys):
    assert main(["separate", url, "-n", str(bundle)]) == 2
    assert words in capsys.readouterr().err.splitlines()[0]


def test_without_ray_a_line_says_what_is_missing(bundle, talks, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["separate", talks, "-n", str(bundle), "--ray", "local"]) == 2
    assert "pip install papez-lobes[ray]" in capsys.readouterr().err
