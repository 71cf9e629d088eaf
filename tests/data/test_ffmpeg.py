"""Recordings that ffmpeg decodes: with the real one where it is, and with one that is played."""

import io
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import audio_info, open_audio, read_audio
from papez_lobes.data.containers import AUDIO_SUFFIXES, FFMPEG_SIGNATURES, FFMPEG_SUFFIXES
from papez_lobes.errors import UserError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="programs that are played need a shell")
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(range(256))
STEREO = np.linspace(-1, 1, 40000, dtype="<f4").reshape(-1, 2)  # 2.5 s at 8 kHz


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Put programs in the place of ffmpeg and ffprobe, which say and write what they are given."""

    def play(probed, decoded=b"", said="", status=0):
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        (folder / "decoded").write_bytes(decoded)
        report = (
            f"#!/bin/sh\necho \"$@\" >> '{folder}/arguments'\n"
            f"if read -r line; then echo 'stdin is open' >&2; exit 9; fi\n"
        )
        decode = f"/bin/cat '{folder}/decoded'\nprintf '%s' '{said}' >&2\nexit {status}\n"
        (folder / "ffprobe").write_text(f"{report}echo '{probed}'\n")
        (folder / "ffmpeg").write_text(report + decode)
        for name in ("ffprobe", "ffmpeg"):
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder / "arguments"

    return play


def probed(duration='"2.500"', format_name="mov,mp4,m4a"):
    return (f'{{"streams": [{{"sample_rate": "8000", "channels": 2}}], "format": '
            f'{{"format_name": "{format_name}", "duration": {duration}}}}}')


def test_a_decoder_is_read_in_blocks_and_its_channels_averaged(tmp_path, played, monkeypatch):
    arguments = played(probed(), STEREO.tobytes())
    monkeypatch.chdir(tmp_path)
    for name in ("a.m4a", "-a, é.m4a", "a: b.wav"):
        (tmp_path / name).write_bytes(M4A)
        with open_audio(name) as audio:
            samples = np.concatenate(list(audio.blocks(3000)))
        np.testing.assert_array_equal(samples, STEREO.mean(axis=1))
        assert (audio.info.frames, audio.seconds, audio.flaw) == (None, 2.5, None)
        assert audio.frames_read == 20000
        assert f"file:{tmp_path / name} " in arguments.read_text()
    assert audio_info("a.m4a").frames == 20000
    np.testing.assert_array_equal(read_audio("a.m4a", channel=1), STEREO[:, 1])
    np.testing.assert_array_equal(
        read_audio("a.m4a", start=1234, frames=100), STEREO[1234:1334].mean(axis=1)
    )
    with pytest.raises(UserError, match="holds no samples"):
        read_audio("a.m4a", start=20000)
    with open_audio(io.BytesIO(M4A)) as audio:  # left before its end
        next(audio.blocks(10))


@pytest.mark.parametrize("duration, said, status, flaw", [
    ('"5.0"', "[mov @ 0x5] partial file\nmore", 0, r"is truncated \(partial file, 2\.50 s missing"),
    ('"2.6"', "", 0, None),
    ('"2.5"', "[aac @ 0x5] error 3\n", 0, r"\(error 3; how much is missing is unknown"),
    ('"2.5"', "", 1, r"ffmpeg does not say why"),
])
def test_what_a_decoder_misses_is_said(tmp_path, played, duration, said, status, flaw):
    played(probed(duration), STEREO.tobytes(), said, status)
    (tmp_path / "a.m4a").write_bytes(M4A)
    with open_audio(tmp_path / "a.m4a", truncated="keep") as audio:
        assert sum(map(len, audio.blocks())) == 20000
    if flaw is None:
        assert audio.flaw is None and audio_info(tmp_path / "a.m4a").frames == 20000
        return
    with pytest.raises(UserError, match=flaw):
        read_audio(tmp_path / "a.m4a")
    with pytest.raises(UserError, match=flaw):
        audio_info(tmp_path / "a.m4a")
    assert audio.flaw.startswith("is truncated")


@pytest.mark.parametrize("probe, message", [
    ("", r"a\.m4a: is MPEG-4 .* cannot be decoded \(ffmpeg does not say why\); leave it out"),
    ("{}", "cannot be decoded"),
    ('{"streams": [], "format": {"format_name": "mov"}}', "without sound; leave it out"),
])
def test_what_ffmpeg_cannot_decode_is_one_line(tmp_path, played, probe, message):
    played(probe)
    (tmp_path / "a.m4a").write_bytes(M4A)
    with pytest.raises(UserError, match=message):
        audio_info(tmp_path / "a.m4a")


def test_lengths_that_are_guessed_are_not_believed(tmp_path, played):
    played(probed('"9.0"', "aac"), STEREO.tobytes())
    (tmp_path / "a.aac").write_bytes(b"\xff\xf1" + bytes(range(100)))
    with open_audio(tmp_path / "a.aac") as audio:
        assert sum(map(len, audio.blocks())) == 20000
    assert audio.seconds is None


@pytest.mark.parametrize("offset, signature, kind", FFMPEG_SIGNATURES)
def test_without_ffmpeg_the_command_that_converts_is_named(
    tmp_path, monkeypatch, offset, signature, kind
):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "a b.wav"
    path.write_bytes(b"RIFF\1\1\1\1"[:offset] + signature + b"\x80" + bytes(range(256)))
    with pytest.raises(UserError) as caught:
        audio_info(path)
    assert f"a b.wav: is {kind}, which needs ffmpeg" in str(caught.value)
    assert f"`ffmpeg -i '{path}' 'a b.wav'`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_suffixes_count_where_the_first_bytes_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert len(set(AUDIO_SUFFIXES)) == len(AUDIO_SUFFIXES)
    for suffix in FFMPEG_SUFFIXES:
        (tmp_path / f"a{suffix}").write_bytes(b"\x81\x82" + bytes(range(256)))
        with pytest.raises(UserError, match=f"is a {suffix} file, which needs ffmpeg"):
            audio_info(tmp_path / f"a{suffix}")
        (tmp_path / f"a{suffix}").write_bytes(b"<html>an error</html>")
        with pytest.raises(UserError, match="a web page"):
            audio_info(tmp_path / f"a{suffix}")


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".wma"])
def test_formats_of_ffmpeg_are_read(tmp_path, suffix, monkeypatch):
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(96000) / 48000)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone / 2], axis=1), 48000)
    path = tmp_path / f"-a{suffix}"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / "a.wav",
                    f"file:{path}"], check=True)
    for source in (path, path.read_bytes()):
        with open_audio(source, 8000) as audio:
            samples = np.concatenate(list(audio.blocks()))
        assert audio.info.channels == 2 and audio.flaw is None
        assert abs(len(samples) - 16000) < 800
        amplitude = np.sqrt(2 * np.mean(samples[4000:12000] ** 2))
        assert abs(amplitude - 0.225) < 0.01  # the mean of both channels
    assert audio_info(path).frames == audio.frames_read == len(read_audio(path))


@needs_ffmpeg
def test_a_cut_webm_is_refused_or_read_as_far_as_it_goes(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(80000)
    soundfile.write(tmp_path / "a.wav", noise, 8000)
    path = tmp_path / "a.webm"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / "a.wav", path],
                   check=True)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"is truncated \(.*, \d\.\d\d s missing\)"):
        read_audio(path)
    with open_audio(path, truncated="keep") as audio:
        assert 2 < sum(map(len, audio.blocks())) / audio.info.sample_rate < 8
    assert audio.flaw


@needs_ffmpeg
def test_bytes_that_only_look_like_a_recording_are_one_line(tmp_path):
    for name, content in (("a.m4a", M4A), ("a.mpg", np.random.default_rng(0).bytes(5000)),
                          ("a.webm", b"\x1a\x45\xdf\xa3" + bytes(range(256)))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be decoded|without sound") as caught:
            audio_info(tmp_path / name)
        assert "\n" not in str(caught.value)
