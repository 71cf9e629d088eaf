"""Tracks of a recording: written as they come, all or none, within full scale."""

import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from papez_lobes.data import tracks
from papez_lobes.data.audio import read_audio
from papez_lobes.data.resampling import Resampler
from papez_lobes.data.tracks import TrackWriter
from papez_lobes.errors import UserError

RATE = 8000


@pytest.fixture
def estimates():
    return (0.1 * np.random.default_rng(0).standard_normal((2, 20001))).astype(np.float32)


def write(paths, estimates, piece=3000, rate=RATE, **options):
    with TrackWriter(paths, rate, **options) as writer:
        for begin in range(0, estimates.shape[1], piece):
            writer.write(estimates[:, begin : begin + piece])
    return writer


def pair(folder, suffix="wav"):
    return [folder / f"a_s{speaker}.{suffix}" for speaker in (1, 2)]


@pytest.mark.parametrize("suffix, subtype, error", [
    ("wav", "PCM_16", 2**-16), ("wav", "PCM_24", 2**-24), ("wav", "FLOAT", 0),
    ("flac", "PCM_16", 2**-16), ("flac", "PCM_24", 2**-24), ("w64", "PCM_16", 2**-16),
    ("aiff", "PCM_24", 2**-24), ("caf", "FLOAT", 0), ("ogg", "PCM_16", None),
    ("mp3", "PCM_16", None),
])
def test_what_was_written_is_read_back(tmp_path, estimates, suffix, subtype, error):
    paths = pair(tmp_path / "new" / "folder", suffix)
    assert write(paths, estimates, subtype=subtype).scale == 1
    assert sorted(os.listdir(paths[0].parent)) == [path.name for path in paths]
    for path, track in zip(paths, estimates):
        samples = read_audio(path)
        assert len(samples) == len(track)
        if error is not None:
            np.testing.assert_allclose(samples, track, atol=error * 1.001, rtol=0)


def test_all_tracks_are_rescaled_by_one_factor(tmp_path, estimates):
    estimates[1, 15000] = -4
    for subtype, step in (("PCM_16", 2**-15), ("PCM_24", 2**-23)):
        writer = write(pair(tmp_path), estimates, subtype=subtype, overwrite=True)
        assert writer.scale == 0.25
        for path, track in zip(pair(tmp_path), estimates):
            np.testing.assert_allclose(read_audio(path), track / 4, atol=step)


def test_clamping_and_float_leave_the_rest_as_it_is(tmp_path, estimates):
    estimates[1, 15000] = -4
    assert write(pair(tmp_path), estimates, clip="clamp").scale == 1
    for path, track in zip(pair(tmp_path), estimates):
        np.testing.assert_allclose(read_audio(path), track.clip(-1, 1), atol=2**-15)
    write(pair(tmp_path), 30000 * estimates, subtype="FLOAT", overwrite=True)
    np.testing.assert_array_equal(read_audio(pair(tmp_path)[1]), 30000 * estimates[1])


def test_a_wav_of_more_than_4_gb_is_rf64(tmp_path, estimates, monkeypatch):
    monkeypatch.setattr(tracks, "LARGEST_WAV", 40001)
    write(pair(tmp_path), estimates)
    write([tmp_path / "short.wav"], estimates[:1, :20000])
    assert soundfile.info(pair(tmp_path)[0]).format == "RF64"
    assert soundfile.info(tmp_path / "short.wav").format == "WAV"
    np.testing.assert_allclose(read_audio(pair(tmp_path)[1]), estimates[1], atol=2**-15)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, MemoryError])
def test_nothing_is_left_behind_after_an_exception(tmp_path, estimates, error):
    with pytest.raises(error):
        with TrackWriter(pair(tmp_path / "new" / "folder"), RATE) as writer:
            writer.write(estimates)
            raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_behind_when_libsndfile_is_interrupted(
    tmp_path, estimates, monkeypatch, capfd, error
):
    """It can neither be told of a full disk nor stopped by Ctrl-C."""
    guarded = tracks._GuardedFile.write

    def stop(self, content):
        def fail(_):
            raise error

        if len(content) > 1000:  # no header
            self._try(fail, content)
        return guarded(self, content)

    monkeypatch.setattr(tracks._GuardedFile, "write", stop)
    expected = UserError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        write(pair(tmp_path / "new"), estimates, subtype="FLOAT")
    assert os.listdir(tmp_path) == [] and capfd.readouterr().err == ""


@contextmanager
def room_for(size):
    """Let no file grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1000, 79000, 80003, 80020])  # 80,004 bytes of one float track
@pytest.mark.parametrize("suffix", ["wav", "w64"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, estimates, size, suffix):
    path = tmp_path / f"a.{suffix}"
    with room_for(size), pytest.raises(UserError, match=r"a\.\w+: cannot be written \(") as caught:
        write([path], estimates[:1], subtype="FLOAT")
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


def test_files_that_exist_are_replaced_only_if_told(tmp_path, estimates):
    write(pair(tmp_path), estimates)
    before = pair(tmp_path)[0].read_bytes()
    pair(tmp_path)[0].unlink()
    with pytest.raises(UserError, match=r"a_s2\.wav: exists; choose another folder, or overwrite"):
        write(pair(tmp_path), -estimates)
    assert os.listdir(tmp_path) == ["a_s2.wav"]
    write(pair(tmp_path), -estimates, overwrite=True)
    assert pair(tmp_path)[0].read_bytes() != before
    with pytest.raises(UserError, match="exists"):  # written by another program meanwhile
        with TrackWriter([tmp_path / "late.wav"], RATE) as writer:
            writer.write(estimates[:1])
            (tmp_path / "late.wav").write_bytes(b"of somebody else")
    assert (tmp_path / "late.wav").read_bytes() == b"of somebody else"


def test_the_recording_itself_is_never_replaced(tmp_path, estimates):
    write(pair(tmp_path), estimates)
    source = pair(tmp_path)[1]
    (tmp_path / "link.wav").symlink_to(source)
    for given in (source, str(source), tmp_path / "link.wav"):
        with pytest.raises(UserError, match=r"a_s2\.wav: is the recording itself"):
            TrackWriter(pair(tmp_path), RATE, overwrite=True, source=given)
    TrackWriter(pair(tmp_path), RATE, overwrite=True, source=b"RIFF")
    TrackWriter(pair(tmp_path), RATE, overwrite=True, source="-")


def test_what_cannot_be_written_is_refused_before_anything_is_separated(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    for path, rate, said in (
        (tmp_path / "a.txt", RATE, "use the suffix .wav"),
        (tmp_path / "a.mp3", 192000, "cannot write .* at 192000 Hz"),
        (tmp_path / "folder.wav", RATE, "is a folder"),
        (tmp_path / "file" / "a.wav", RATE, "cannot be written"),
        (tmp_path / ("long" * 100 + ".wav"), RATE, "cannot be written"),
    ):
        with pytest.raises(UserError, match=said) as caught, TrackWriter([path], rate):
            pass
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="same name"):
        TrackWriter(2 * [tmp_path / "a.wav"], RATE)
    with pytest.raises(ValueError, match="'rescale' or 'clamp'"):
        TrackWriter([tmp_path / "a.wav"], RATE, clip="none")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.wav"]


def test_a_folder_without_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tracks.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"a\.wav: cannot be written \(Permission denied\)"):
        write([tmp_path / "new" / "a.wav"], np.zeros((1, 8)))
    assert os.listdir(tmp_path) == []


def test_all_or_none_appear(tmp_path, estimates, monkeypatch):
    replace, calls = os.replace, []

    def fail_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", fail_second)
    with pytest.raises(UserError, match=r"a_s2\.wav: cannot be written \(Input/output error\)"):
        write(pair(tmp_path), estimates)
    assert os.listdir(tmp_path) == []


def test_estimates_of_another_shape_or_not_finite_are_refused(tmp_path, estimates):
    for wrong in (estimates[0], estimates[:1], np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match=r"must be \[2, n\]|must be finite"):
            write(pair(tmp_path), np.atleast_2d(wrong) if wrong.ndim == 2 else wrong[:, None])
    write(pair(tmp_path), np.zeros((2, 0)))
    assert soundfile.info(pair(tmp_path)[0]).frames == 0


@pytest.mark.parametrize("frames, rate", [(1, 48000), (48001, 48000), (44099, 44100)])
def test_estimates_at_the_recordings_rate_have_its_number_of_samples(tmp_path, frames, rate):
    tone = np.sin(2 * np.pi * 300 * np.arange(frames) / rate).astype(np.float32)
    down, up = Resampler(rate, RATE), Resampler(RATE, rate)
    with TrackWriter(pair(tmp_path), rate, subtype="FLOAT") as writer:
        for begin in range(0, frames, 5000):
            writer.write(up.feed(np.stack(2 * [down.feed(tone[begin : begin + 5000])])))
        writer.write(up.feed(np.stack(2 * [down.flush()])))
        writer.write(up.flush(frames))
    for path in pair(tmp_path):
        assert soundfile.info(path).frames == frames
        np.testing.assert_allclose(read_audio(path)[900:-900], tone[900:-900], atol=4e-3)
