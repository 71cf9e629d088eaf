"""Audio files: what is read, how it is rounded, and one clear line for every bad file."""

import re

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import audio_info, open_audio, read_audio, write_audio
from papez_lobes.data.containers import SNDFILE_SUFFIXES
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


def test_odd_names_and_both_kinds_of_path_are_read(tmp_path, noise):
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


def test_one_sample_is_read_back(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([0.5]), RATE)
    assert read_audio(tmp_path / "a.wav").tolist() == [0.5]


def test_gsm_is_read_whole_and_in_pieces(tmp_path):
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
    def read_blocks(path):
        with open_audio(path) as audio:
            list(audio.blocks())

    for name, said in bad_files(tmp_path, noise).items():
        for read in (read_audio, read_blocks):
            with pytest.raises(UserError) as caught:
                read(tmp_path / name)
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


# Suffix -> options with which libsndfile writes such a file; others are wav, sph or ogg by content.
FORMATS = {
    ".wv1": {"format": "NIST"}, ".sph": {"format": "NIST"}, ".nist": {"format": "NIST"},
    ".oga": {"format": "OGG", "subtype": "VORBIS"}, ".opus": {"format": "OGG", "subtype": "OPUS"},
    ".ogg": {"format": "OGG", "subtype": "VORBIS"}, ".aif": {"format": "AIFF"},
    ".aifc": {"format": "AIFF", "endian": "LITTLE"}, ".snd": {"format": "AU"},
    ".wave": {"format": "WAV"}, ".bwf": {"format": "WAVEX"}, ".iff": {"format": "SVX"},
    ".sf": {"format": "IRCAM"}, ".ircam": {"format": "IRCAM"}, ".gsm": GSM,
    ".wve": {"format": "WVE", "subtype": "ALAW"},
}
# They state no length: what is missing at their end cannot be known.
WITHOUT_LENGTH = {".sf", ".ircam", ".paf", ".pvf"}


@pytest.mark.parametrize("suffix", SNDFILE_SUFFIXES)
def test_every_suffix_that_is_taken_for_audio_is_read_and_a_cut_file_is_not(
    tmp_path, suffix
):
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(24000) / RATE)
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone, RATE, **FORMATS.get(suffix, {"format": suffix[1:].upper()}))
    assert audio_info(path).frames == len(read_audio(path)) == 24000
    assert np.corrcoef(read_audio(path), tone)[0, 1] > 0.95
    content = path.read_bytes()
    for length in (len(content) // 3 + 1, len(content) // 2 + 1, len(content) - 41):
        if suffix not in WITHOUT_LENGTH:
            path.write_bytes(content[:length])
            with pytest.raises(UserError, match=r"truncated|malformed"):
                read_audio(path)


def ogg_pages(content):
    return [match.start() for match in re.finditer(b"OggS", content)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_between_or_within_pages_does_not_pass(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)
    soundfile.write(path, noise, RATE, format="OGG", subtype=subtype)
    content = path.read_bytes()
    *_, page, last = ogg_pages(content)
    for length in (page, last):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="last page is not marked as the end"):
            audio_info(path)
    for length in (last + 5, last + 27, last + 40, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="last page is not whole"):
            audio_info(path)
    for whole in (content + bytes(100), content + content):  # padded, chained
        path.write_bytes(whole)
        assert audio_info(path).frames == 8 * RATE


@pytest.mark.parametrize("rate, channels", [(8000, 1), (22050, 2), (44100, 1), (48000, 2)])
def test_a_cut_mp3_does_not_pass(tmp_path, rate, channels):
    path = tmp_path / "a.mp3"
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((2 * rate + 7, channels)), rate)
    content = path.read_bytes()
    second = content.index(content[:2], 4)  # the first holds the header that states the length
    assert audio_info(path).frames == 2 * rate + 7
    tag = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    path.write_bytes(tag + content + b"TAG" + bytes(125))
    assert audio_info(path).frames == 2 * rate + 7
    for cut in (content[: len(content) // 2], content[:-1], tag + content[:-1]):
        path.write_bytes(cut)
        with pytest.raises(UserError, match=r"truncated \(\d+ of \d+ frames, [\d.]+ s missing\)"):
            audio_info(path)
    path.write_bytes(content[second:-1])
    with pytest.raises(UserError, match="its last frame is not whole"):
        audio_info(path)
    for partly_read in (content[second:], content + content):
        path.write_bytes(partly_read)
        with pytest.raises(UserError, match=r"\d+ of \d+ samples would be read; convert it"):
            audio_info(path)


FOREIGN = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n": "git lfs pull",
    b"/annex/objects/SHA256E-s1234--abcd.wav\n": "git annex get",
    b"\n  <!DOCTYPE html>\n<html><title>404</title></html>": "a web page",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "a web page",
    b"PK\x03\x04\x14\0\0\0" + bytes(range(256)): "zip",
    b"\x1f\x8b\x08\0" + bytes(range(256)): "gzip",
    bytes(257) + b"ustar\x0000" + bytes(500): "tar",
    b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(256)): "7z",
    b"%PDF-1.7\n\xe2\xe3\xcf\xd3": "PDF",
    bytes(5000): "zeros",
    "Grüße, “text”\n".encode() * 100: "text",
}


@pytest.mark.parametrize("content, said", FOREIGN.items(), ids=FOREIGN.values())
def test_what_is_not_audio_is_named_for_what_it_is(tmp_path, content, said, capfd):
    for suffix in SNDFILE_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        said_of_it = rf"a{suffix}: not an audio file but .*{said}"
        with pytest.raises(UserError, match=said_of_it) as caught:
            audio_info(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # libraries of C have nothing to say


@pytest.mark.parametrize("suffix", [*SNDFILE_SUFFIXES, ".raw", ".vox", ".wv2", ""])
def test_unknown_bytes_are_not_taken_for_headerless_audio(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"\x81\x82" + np.random.default_rng(0).bytes(5000))
    with pytest.raises(UserError, match=r"not an audio file|has no header that tells its rate"):
        audio_info(path)


def test_streamed_files_of_unknown_length_are_read(tmp_path, noise):
    """As ffmpeg and sox write them to a pipe, where they cannot go back to the header."""
    for suffix, at, bytes_there in (
        ("au", 8, b"\xff\xff\xff\xff"), ("aiff", 42, (0x7F000008).to_bytes(4, "big")),
    ):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, noise, RATE)
        content = bytearray(path.read_bytes())
        content[at : at + 4] = bytes_there
        if suffix == "aiff":
            content[22:26] = (0x7F000000 // 2).to_bytes(4, "big")
        path.write_bytes(content)
        assert audio_info(path).frames == len(read_audio(path)) == RATE
        np.testing.assert_allclose(read_audio(path, start=5, frames=3), noise[5:8], atol=2**-15)


def test_a_flac_without_a_length_is_one_line(tmp_path, noise):
    soundfile.write(tmp_path / "a.flac", noise, RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(UserError, match="does not state its length"):
        audio_info(tmp_path / "a.flac")


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_all_rates_depths_channels_and_lengths_are_read(tmp_path, rate, subtype, channels):
    for frames in (1, 77):
        path = tmp_path / f"{frames}.wav"
        soundfile.write(path, np.full((frames, channels), 0.25), rate, subtype=subtype)
        assert (audio_info(path).frames, audio_info(path).channels) == (frames, channels)
        assert read_audio(path).tolist() == [0.25] * frames
        assert len(read_audio(str(path), 8000)) == -(-frames * 8000 // rate)


def test_a_name_with_a_nul_character_is_one_line():
    with pytest.raises(UserError, match="cannot be a path"):
        audio_info("a\0.wav")


def test_a_broken_link_is_named_as_such(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / ".git/annex/objects/gone.wav")
    with pytest.raises(UserError, match=r"a\.wav: is a link to a file that is not there"):
        audio_info(tmp_path / "a.wav")
