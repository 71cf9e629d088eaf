"""Audio files: what is read, how it is rounded, and one clear line for every bad file."""

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import audio_info, read_audio, write_audio
from papez_lobes.errors import UserError

RATE = 8000
GSM = {"format": "RAW", "subtype": "GSM610"}


@pytest.fixture
def noise():
    return (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def truncate(path, share=0.51):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content)) // 2 * 2 + 1])
    return path


@pytest.mark.parametrize(
    "suffix, subtype, error",  # libsndfile's own rounding is off by up to one step
    [
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "FLOAT", 0),
        ("flac", "PCM_24", 2**-23),
    ],
)
def test_reads_what_was_written(tmp_path, noise, suffix, subtype, error):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise, RATE, subtype=subtype)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, noise, atol=error, rtol=0)


def test_odd_names_and_both_kinds_of_path(tmp_path, noise):
    path = tmp_path / "Zoë's folder, 100 %" / "ein Stück $1.wav"
    write_audio(str(path), noise, RATE)
    np.testing.assert_array_equal(read_audio(str(path)), read_audio(path))


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged_or_chosen(tmp_path, channels):
    path = tmp_path / "a.wav"
    values = np.arange(1, channels + 1) / 16
    soundfile.write(path, np.tile(values, (100, 1)), RATE)
    np.testing.assert_allclose(read_audio(path), values.mean())
    np.testing.assert_allclose(read_audio(path, channel=1), values[1])
    assert audio_info(path).channels == channels
    with pytest.raises(UserError, match=f"has {channels} channel.* no channel {channels}"):
        read_audio(path, channel=channels)


def test_a_piece_is_cut_at_the_files_own_rate(tmp_path, noise):
    write_audio(tmp_path / "a.wav", noise, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", start=10, frames=5), noise[10:15])
    assert len(read_audio(tmp_path / "a.wav", 16000, start=7000, frames=5000)) == 2000
    with pytest.raises(UserError, match="holds no samples"):
        read_audio(tmp_path / "a.wav", start=RATE)


def test_resampling_keeps_a_tone_in_place(tmp_path):
    time = np.arange(48000) / 48000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 48000)
    samples = read_audio(tmp_path / "a.wav", RATE)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert samples.shape == (RATE,)
    np.testing.assert_allclose(samples[200:-200], wanted[200:-200], atol=1e-3)


def test_one_sample(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([0.5]), RATE)
    assert read_audio(tmp_path / "a.wav").tolist() == [0.5]


def test_gsm(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(1600) / RATE)
    path = tmp_path / "a.gsm"
    soundfile.write(path, tone, RATE, **GSM)
    samples = read_audio(path)
    assert audio_info(path).frames == len(samples) == 1600
    assert np.corrcoef(samples, tone)[0, 1] > 0.95  # a lossy codec
    np.testing.assert_array_equal(read_audio(path, start=500, frames=300), samples[500:800])


def sphere_header(**fields):
    lines = [f"{name} {'-i' if value.isdecimal() else f'-s{len(value)}'} {value}"
             for name, value in fields.items()]
    return "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode().ljust(1024)


def test_sphere_files_are_read_whatever_their_suffix(tmp_path, noise):
    path = tmp_path / "445c0206.wv1"
    soundfile.write(path, noise, RATE, format="NIST", subtype="PCM_16")
    assert audio_info(path).frames == RATE
    np.testing.assert_allclose(read_audio(path), noise, atol=2**-15)


def test_compressed_sphere_says_how_to_convert_it(tmp_path):
    path = tmp_path / "445c0206.wv1"
    header = sphere_header(
        channel_count="1", sample_count="16000", sample_rate="16000", sample_n_bytes="2",
        sample_byte_format="01", sample_coding="pcm,embedded-shorten-v2.00",
    )
    path.write_bytes(header + b"ajkg" + bytes(9000))
    with pytest.raises(UserError, match=r"is compressed SPHERE .*`sph2pipe -f wav IN.wv1 OUT.wav`"):
        audio_info(path)


def bad_files(folder, noise):
    """Name -> (path, what its message says)."""
    soundfile.write(folder / "short.wav", noise, RATE)
    soundfile.write(folder / "short.flac", noise, RATE)
    soundfile.write(folder / "short.gsm", noise, RATE, **GSM)
    soundfile.write(folder / "short.wv1", noise, RATE, format="NIST", subtype="PCM_16")
    soundfile.write(folder / "nan.wav", np.array([0, np.nan]), RATE, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.array([0, np.inf]), RATE, subtype="FLOAT")
    soundfile.write(folder / "nothing.wav", noise[:0], RATE)
    soundfile.write(folder / "head.wav", noise, RATE)
    for name in ("text.wav", "text.flac", "text.gsm"):
        (folder / name).write_text("not audio at all\n" * 20)
    (folder / "empty.wav").touch()
    (folder / "empty.gsm").touch()
    return {
        "missing.wav": "no such file",
        ".": "is a folder",
        "empty.wav": "is empty",
        "empty.gsm": "is empty",
        "nothing.wav": "holds no samples",
        "text.wav": "not an audio file",
        "text.flac": "not an audio file",
        "text.gsm": "not an audio file",
        truncate(folder / "head.wav", 0.001).name: "not an audio file",
        truncate(folder / "short.wav").name: "is truncated",
        truncate(folder / "short.flac").name: "truncated",
        truncate(folder / "short.gsm").name: "is truncated",
        truncate(folder / "short.wv1").name: "is truncated",
        "nan.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite",
    }


def test_bad_files_give_one_line_each_with_their_name(tmp_path, noise):
    for name, said in bad_files(tmp_path, noise).items():
        with pytest.raises(UserError) as caught:
            read_audio(tmp_path / name)
        message = str(caught.value)
        assert said in message, name
        assert message.startswith(f"{tmp_path / name}: ") and "\n" not in message


def test_streamed_file_of_unknown_size_is_read(tmp_path, noise):
    path = tmp_path / "streamed.wav"
    soundfile.write(path, noise, RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == RATE


def test_16_bit_rounds_to_nearest_and_clips(tmp_path):
    steps = np.array([0.4, 0.6, -0.6, 32767.4, 40000, -40000])
    write_audio(tmp_path / "a.wav", steps / 32768, RATE)
    written, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert written.tolist() == [0, 1, -1, 32767, 32767, -32768]


def test_float_files_keep_every_value(tmp_path, noise):
    write_audio(tmp_path / "a.wav", 20 * noise, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), 20 * noise)


def test_what_cannot_be_written_is_refused(tmp_path, noise):
    for samples in (noise[None], np.array([np.nan])):
        with pytest.raises(ValueError, match="finite"):
            write_audio(tmp_path / "a.wav", samples, RATE)
    with pytest.raises(UserError, match=r"use the suffix \.wav"):
        write_audio(tmp_path / "a.txt", noise, RATE)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_audio(tmp_path / "file" / "a.wav", noise, RATE)


def test_readers_of_a_replaced_file_keep_the_old_one(tmp_path, noise):
    path = tmp_path / "a.wav"
    write_audio(path, noise, RATE)
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_audio(path, -noise, RATE)
        assert reader.read() == before != path.read_bytes()
