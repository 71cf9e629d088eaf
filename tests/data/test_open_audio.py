"""Recordings that are read in blocks: from every kind of source, of any length, and cut ones."""

import io
import os
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import open_audio, read_audio, write_audio
from papez_lobes.errors import UserError
from tests.pipes import Pipe

# Suffix -> options with which libsndfile writes such a file.
FORMATS = {
    ".wav": {}, ".flac": {}, ".ogg": {}, ".mp3": {}, ".aiff": {}, ".caf": {}, ".au": {},
    ".w64": {}, ".rf64": {}, ".wv1": {"format": "NIST"}, ".bwf": {"format": "WAVEX"},
    ".opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.fixture
def stereo():
    return 0.1 * np.random.default_rng(0).standard_normal((50001, 2))


def read_blocks(source, sample_rate=None, frames=4096, **options):
    with open_audio(source, sample_rate, **options) as audio:
        return np.concatenate(list(audio.blocks(frames)))


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_equal_the_whole_in_every_format(tmp_path, stereo, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, stereo, 48000, **FORMATS[suffix])
    np.testing.assert_array_equal(read_blocks(path), read_audio(path))
    resampled = read_audio(path, 8000)
    np.testing.assert_allclose(read_blocks(path, 8000, 777), resampled, atol=1e-6)
    with open_audio(path, 8000, channel=1) as audio:
        blocks = list(audio.blocks())
        assert audio.info.frames == audio.frames_read == len(stereo) and audio.flaw is None
        assert audio.seconds == len(stereo) / 48000
    np.testing.assert_allclose(
        np.concatenate(blocks), read_audio(path, 8000, channel=1), atol=1e-6
    )


def test_every_kind_of_source_gives_the_same(tmp_path, stereo, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "a.flac"
    soundfile.write(path, stereo, 16000)
    content, wanted = path.read_bytes(), read_audio(path, 8000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with path.open("rb") as file:
        sources = [str(path), path, content, memoryview(content), io.BytesIO(content), file,
                   Pipe(content), "-"]
        for source in sources:
            np.testing.assert_allclose(read_blocks(source, 8000), wanted, atol=1e-6)
    with pytest.raises(OSError, match="of the caller's own"), open_audio(content):
        raise OSError("of the caller's own")
    with pytest.raises(TypeError, match="binary mode"), open_audio(io.StringIO("text")):
        pass
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_read(tmp_path, stereo):
    soundfile.write(tmp_path / "a.wav", stereo, 8000)
    os.mkfifo(tmp_path / "pipe")
    content = (tmp_path / "a.wav").read_bytes()
    thread = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    thread.start()
    assert len(read_blocks(tmp_path / "pipe")) == len(stereo)
    thread.join()


def test_errors_name_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"PK\x03\x04" + bytes(99))))
    for source, said in (
        ("-", "standard input: not an audio file but a zip"),
        (b"", "the given bytes: is empty"),
        (io.BytesIO(b"<html>"), "the given file: not an audio file but a web page"),
        (tmp_path / "no.wav", "no.wav: no such file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=said) as caught, open_audio(source):
            pass
        assert "\n" not in str(caught.value)


def test_a_full_temporary_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"the given bytes: cannot be copied to .* set TMPDIR"):
        read_blocks(b"RIFF")


def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for seconds in (20, 120):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, np.zeros((1, 2)), 48000)
        header = bytearray(path.read_bytes()[:44])
        header[40:44] = (192000 * seconds).to_bytes(4, "little")
        path.write_bytes(header)
        os.truncate(path, 44 + 192000 * seconds)
        tracemalloc.start()
        with open_audio(path, 8000) as audio:
            assert sum(len(block) for block in audio.blocks()) == 8000 * seconds
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 10e6


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".w64"])
def test_a_cut_file_is_refused_or_read_as_far_as_it_goes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(80007)
    soundfile.write(path, noise, 8000, **FORMATS[suffix])
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1])
    with pytest.raises(UserError, match="is truncated"):
        read_blocks(path)
    with open_audio(path, truncated="keep") as audio:
        there = np.concatenate(list(audio.blocks()))
    assert 0.3 * len(whole) < len(there) < 0.65 * len(whole)
    np.testing.assert_allclose(there[:-1152], whole[: len(there) - 1152], atol=1e-6)
    assert audio.flaw.startswith("is truncated (") and audio.flaw.endswith(")")
    if suffix in (".ogg", ".opus"):
        assert "how much is missing is unknown" in audio.flaw
    else:
        missing = float(audio.flaw.rpartition(", ")[2].partition(" s missing")[0])
        assert abs(len(there) / 8000 + missing - len(whole) / 8000) < 0.4


def test_nan_and_infinite_samples_are_placed(tmp_path):
    samples = np.zeros(20000)
    for number, value in enumerate((np.nan, np.inf, 1e300)):
        path = tmp_path / f"{number}.wav"
        samples[12345] = value
        soundfile.write(path, samples, 8000, subtype="DOUBLE")
        for read in (read_blocks, read_audio):
            with pytest.raises(UserError, match=r"NaN or infinite samples, the first at 1\.543 s"):
                read(path)


@pytest.mark.parametrize("samples, options", [
    (np.zeros(800), {}), ([0.5], {}), (np.full(7, 0.5), {}), (np.full(800, 0.25), {}),
    (np.tile([1.0, -1.0], 400), {"subtype": "FLOAT"}),  # clipped
    (np.full(800, 30000.0), {"subtype": "FLOAT"}), (np.full(800, 1e-4), {"subtype": "PCM_24"}),
    (np.full((800, 6), 0.5), {}), (np.full(800, 0.5), {"samplerate": 192000}),
    (np.full(800, 0.5), {"subtype": "PCM_U8"}), (np.full(800, 0.5), {"subtype": "PCM_32"}),
    (np.full(800, 0.5), {"subtype": "DOUBLE"}), (np.full(800, 0.5), {"format": "WAVEX"}),
])
def test_unusual_recordings_are_read(tmp_path, samples, options):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, **{"samplerate": 8000, **options})
    wanted = np.reshape(samples, (len(samples), -1))[:, 0]
    np.testing.assert_allclose(read_blocks(path), wanted, rtol=1e-6, atol=2**-23)
    rate = options.get("samplerate", 8000)
    assert len(read_blocks(path, 8000)) == -(-len(samples) * 8000 // rate)


def test_a_recording_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    with pytest.raises(UserError, match="holds no samples"):
        read_blocks(tmp_path / "a.wav")


def test_an_mp3_without_its_header_frame_and_with_cover_art_is_read(tmp_path):
    path = tmp_path / "a.mp3"
    noise = 0.1 * np.random.default_rng(0).standard_normal(80007)
    soundfile.write(path, noise, 8000)
    content, whole = path.read_bytes(), read_audio(path)
    threads = threading.active_count()
    size = 300_000  # of a picture, stated in 7 bits a byte
    digits = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    cover = b"ID3\4\0\0" + digits + b"APIC" + bytes(size - 4)
    path.write_bytes(cover + content)
    np.testing.assert_array_equal(read_blocks(path), whole)
    without_header = content[content.index(content[:2], 4) :]
    for source in (without_header, cover + without_header):
        samples = read_blocks(source)
        assert abs(len(samples) - len(whole)) < 3000  # the encoder's delay is not taken off
        delay = np.argmax(np.correlate(samples[10000:20000], whole[12000:16000]))
        assert np.corrcoef(samples[10000 + delay :][:4000], whole[12000:16000])[0, 1] > 0.99
    assert len(read_blocks(content + content)) > 1.95 * len(whole)
    with open_audio(without_header * 50) as audio:  # left before its end
        next(audio.blocks(10))
    assert threading.active_count() == threads


def test_a_flac_that_does_not_state_its_length_is_read(tmp_path, stereo):
    soundfile.write(tmp_path / "a.flac", stereo, 8000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[22:26] = bytes(4)
    with open_audio(bytes(content)) as audio:
        assert audio.info.frames is None and audio.seconds is None
        assert sum(map(len, audio.blocks())) == audio.frames_read == len(stereo)
    assert audio.flaw is None


@pytest.mark.parametrize("name", ["-a.wav", "a b.wav", "Zoë, ein Stück.wav", "--", "$1 100%.wav"])
def test_odd_names_are_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_audio("a.wav", np.full(80, 0.5), 8000)
    os.replace("a.wav", name)
    assert len(read_blocks(name)) == len(read_blocks(Path(name))) == 80


def test_a_channel_that_is_not_there_and_an_unknown_choice_are_refused(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(80), 8000)
    with pytest.raises(UserError, match="no channel 1"):
        read_blocks(tmp_path / "a.wav", channel=1)
    with pytest.raises(ValueError, match="'refuse' or 'keep'"):
        read_blocks(tmp_path / "a.wav", truncated="guess")


def test_reading_and_writing_need_neither_scipy_nor_torch():
    code = ("import sys; sys.modules.update(scipy=None, torch=None, tqdm=None)\n"
            "import papez_lobes.data.tracks\n"
            "from papez_lobes.data.resampling import resample\n"
            "assert len(resample([1.0] * 441, 44100, 8000)) == 80")
    subprocess.run([sys.executable, "-c", code], check=True)
