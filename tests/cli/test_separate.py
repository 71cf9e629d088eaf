"""papez separate: files of every kind, names, what exists, and what is said."""

import io
import itertools
import json
import os
import sys

import numpy as np
import pytest
import soundfile

from papez_lobes.cli.main import main
from papez_lobes.errors import UserError
from papez_lobes.inference.files import Report, separate_recording
from papez_lobes.inference.interface import SpeechSeparation
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez_small")


@pytest.fixture
def separate(bundle):
    """A function that runs the command; an output folder may be given by `out=`."""

    def run(*words, out=None):
        folder = [] if out is None else ["-o", str(out)]
        return main(["separate", *map(str, words), "-n", str(bundle), "-d", "cpu", *folder])

    return run


def write(path, samples, rate=8000, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def noise(count, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(count)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file())


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000, 192000])
def test_any_rate_width_and_channels_are_separated(separate, tmp_path, rate):
    paths = []
    for channels, subtype in itertools.product((1, 2, 6), ("PCM_16", "PCM_24", "FLOAT")):
        samples = np.stack([noise(rate // 20, seed) for seed in range(channels)], axis=1)
        name = f"ein Gemisch, ü {channels} {subtype}.wav"
        paths.append(write(tmp_path / name, samples, rate, subtype))
    assert separate(*paths, out=tmp_path / "out") == 0
    for path in paths:
        for speaker in (1, 2):
            info = soundfile.info(tmp_path / f"out/{path.stem}_s{speaker}.wav")
            assert (info.samplerate, info.channels, info.frames) == (8000, 1, 400)


def test_estimates_sum_to_the_mixture_as_far_as_they_can(separate, tmp_path):
    mixture = 3 * noise(4000)
    separate(write(tmp_path / "mix.wav", mixture, subtype="FLOAT"), "--float32", out=tmp_path)
    estimates = np.stack([soundfile.read(tmp_path / f"mix_s{i}.wav")[0] for i in (1, 2)])
    residual = np.square(mixture - estimates.sum(0)).sum()
    assert residual < np.square(mixture).sum()
    for gains in ((1.05, 1.0), (0.95, 1.0), (1.0, 1.05), (1.0, 0.95)):
        assert np.square(mixture - gains @ estimates).sum() > residual * 0.9999


@pytest.mark.parametrize("samples", [np.zeros(3000), np.zeros(1), np.ones(1), np.full(7, 0.5)])
def test_silence_and_single_samples_are_separated(separate, tmp_path, samples):
    assert separate(write(tmp_path / "a.wav", samples), out=tmp_path / "out") == 0
    estimate, _ = soundfile.read(tmp_path / "out/a_s1.wav")
    assert len(estimate) == len(samples) and np.isfinite(estimate).all()
    assert samples.any() or not estimate.any()


def test_a_bad_file_is_named_at_the_end_and_the_others_are_done(separate, tmp_path, capsys):
    good = write(tmp_path / "good.wav", noise(800))
    bad = tmp_path / "bad.wav"
    bad.write_text("not audio")
    nan = write(tmp_path / "nan.wav", np.full(800, np.nan), subtype="FLOAT")
    status = separate(bad, good, nan, tmp_path / "missing.wav", out=tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()[-4:]
    assert status == 2
    for line, name in zip(lines, ("bad.wav", "nan.wav", "missing.wav", "3 of 4 recordings")):
        assert line.startswith("papez separate: ") and name in line
    assert names(tmp_path / "out") == ["good_s1.wav", "good_s2.wav"]


@pytest.mark.parametrize("words, message", [
    (["a.wav", "-n", "/nowhere"], "/nowhere"),
    (["a.wav", "--num-spks", "7"], "7 speakers"),
    (["a.wav", "-n", "papez-small-8k", "--num-spks", "3"], "2 speakers, not 3"),
    (["a.wav", "-j", "0"], "--jobs 0"),
    (["nothing/*.wav"], "no files match"),
    (["a.wav", "--filename", "{track}.wav"], "{speaker}"),
    (["a.wav", "--filename", "../{track}_{speaker}.wav"], "outside the output folder"),
    (["a.wav", "--filename", "{name}_{speaker}.wav"], "{track}, {speaker} and {ext}"),
    (["a.wav", "--overlap", "9", "--segment", "10"], "overlap"),
    (["a.wav", "--segment", "inf"], "segments of inf s"),
    (["a.wav", "--segment", "1e-9", "--overlap", "1e-10"], "segments of 1e-09 s"),
])
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SpeechSeparation, "measure_rtf", lambda self: 0.1)  # on a busy machine too
    write(tmp_path / "a.wav", noise(800))
    assert main(["separate", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[0] and all(line.startswith("papez separate:") for line in lines)
    assert names(tmp_path) == ["a.wav"]


def test_a_device_that_fails_gives_one_line_and_the_cpu(separate, tmp_path, capsys):
    path = write(tmp_path / "a.wav", noise(800))
    assert main(["separate", str(path), "-o", str(tmp_path / "other"), "-d", "nothing"]) == 0
    assert "nothing" in capsys.readouterr().err and names(tmp_path / "other")


def test_an_error_that_nobody_expects_fails_one_recording(
    separate, tmp_path, monkeypatch, capsys
):
    """Such as a GPU that has too little memory for one of them."""
    def run(separator, source, *arguments):
        if str(source).endswith("b.wav"):
            raise RuntimeError("out of memory")
        return separate_recording(separator, source, *arguments)

    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / name, noise(800))
    monkeypatch.setattr("papez_lobes.inference.batch.separate_recording", run)
    assert separate(tmp_path / "*.wav", out=tmp_path / "out") == 2
    assert "RuntimeError: out of memory" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a_s1.wav", "a_s2.wav", "c_s1.wav", "c_s2.wav"]


def test_a_file_that_exists_is_never_replaced_unasked(separate, tmp_path, capsys):
    path, mine = write(tmp_path / "a.wav", noise(800)), write(tmp_path / "out/a_s1.wav", noise(99))
    before = mine.read_bytes()
    assert separate(path, out=tmp_path / "out") == 2
    assert "a_s1.wav: exists" in capsys.readouterr().err
    assert mine.read_bytes() == before and names(tmp_path / "out") == ["a_s1.wav"]
    assert separate(path, "--overwrite", out=tmp_path / "out") == 0
    assert mine.read_bytes() != before and names(tmp_path / "out") == ["a_s1.wav", "a_s2.wav"]


def test_an_input_is_never_overwritten(separate, tmp_path, capsys):
    files = [write(tmp_path / name, noise(800)) for name in ("x.wav", "x_s1.wav")]
    before = files[1].read_bytes()
    assert separate(files[0], "--filename", "{track}{speaker}.wav", out=tmp_path) == 0
    assert separate(*files, out=tmp_path) == 2
    assert separate(tmp_path / "x1.wav", "--overwrite", "--filename", "x{speaker}.{ext}",
                    out=tmp_path) == 2
    assert "is the recording itself" in capsys.readouterr().err
    assert files[1].read_bytes() == before


@pytest.mark.parametrize("option", ["--overwrite", "--skip-existing"])
def test_an_input_is_not_overwritten_by_an_estimate_of_another(separate, tmp_path, capsys, option):
    files = [write(tmp_path / name, noise(800)) for name in ("x.wav", "x_s1.wav")]
    before = files[1].read_bytes()
    assert separate(tmp_path, option, out=tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x_s1.wav: is a recording of this job" in line and "x.wav" in line
    assert files[1].read_bytes() == before and names(tmp_path) == ["x.wav", "x_s1.wav"]
    write(tmp_path / "x_s2.wav", noise(800))  # x is done
    assert separate(*files, "--skip-existing", out=tmp_path) == 0
    assert files[1].read_bytes() == before


@pytest.mark.parametrize("words", [[], ["--overwrite"], ["--skip-existing"], ["-j", "2"]])
def test_two_recordings_never_have_estimates_of_one_name(separate, tmp_path, capsys, words):
    files = [write(tmp_path / name, noise(800)) for name in ("x.wav", "y.wav")]
    assert separate(*files, "--filename", "talk{speaker}.wav", *words, out=tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "talk1.wav would be of both" in line and "{track}" in line
    assert names(tmp_path) == ["x.wav", "y.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are Unicode")
def test_a_name_that_is_not_utf8_is_separated_and_printed_as_it_is(
    separate, tmp_path, monkeypatch
):
    path = os.fsencode(tmp_path) + b"/t\xe9l\xff.wav"
    with open(path, "wb") as file:
        soundfile.write(file, noise(800), 8000, format="WAV")
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", printed)
    assert separate(tmp_path, out=tmp_path / "out") == 0
    printed.flush()
    paths = printed.buffer.getvalue().splitlines()
    assert [*map(os.path.basename, paths)] == [b"t\xe9l\xff_s1.wav", b"t\xe9l\xff_s2.wav"]
    assert all(map(os.path.isfile, paths))


def test_a_name_with_dollars_is_no_formula_in_the_picture(separate, tmp_path):
    path = write(tmp_path / "$\\frac$.wav", noise(800))
    assert separate(path, "--plot", out=tmp_path / "out") == 0
    assert len(names(tmp_path / "out")) == 3


def test_a_name_that_standard_output_has_no_letters_for_is_escaped(
    separate, tmp_path, monkeypatch
):
    path = write(tmp_path / "\N{MICROPHONE}.wav", noise(800))
    printed = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", printed)
    assert separate(path, out=tmp_path / "out") == 0
    printed.flush()
    assert b"\\U0001f3a4_s1.wav" in printed.buffer.getvalue()


def test_a_folder_is_resumed_and_keeps_its_tree(separate, tmp_path, capsys):
    tree = tmp_path / "talks"
    for name in ("monday/a.wav", "monday/b.wav", "tuesday/a.wav", "tuesday/a.flac"):
        write(tree / name, noise(800))
    (tree / "notes.txt").write_text("x")
    out = tmp_path / "out"
    write(out / "monday/a_s1.wav", noise(9)), write(out / "monday/a_s2.wav", noise(9))
    assert separate(tree, "--skip-existing", "--json", out=out) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["status"] for line in lines] == ["skipped", *["separated"] * 3]
    assert "passed over 1 file" in printed.err and "monday/a.wav: left out" in printed.err
    assert names(out) == sorted(
        f"{track}_s{speaker}.wav" for speaker in (1, 2)
        for track in ("monday/a", "monday/b", "tuesday/a.flac", "tuesday/a.wav")
    )
    assert soundfile.info(out / "monday/a_s1.wav").frames == 9


def test_two_inputs_of_one_name_and_patterns_go_to_different_places(
    separate, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.wav", "b/x.wav", "-y.wav"):
        write(tmp_path / name, noise(400))
    assert separate("a/x.wav", "b/x.wav", "./-y.wav", out="one") == 0
    assert names(tmp_path / "one")[::2] == ["-y_s1.wav", "a/x_s1.wav", "b/x_s1.wav"]
    assert separate("?/*.wav") == 0  # quoted, as on Windows
    assert names(tmp_path / "separated")[::2] == ["a/x_s1.wav", "b/x_s1.wav"]


def test_what_is_written_can_be_chosen(separate, tmp_path):
    mixture = noise(3 * 16001).reshape(3, -1).T
    path = write(tmp_path / "a.wav", mixture, 16000)
    assert separate(path, "--flac", "--int24", "--keep-rate", "--residual", "--plot",
                    "--filename", "{speaker}/{track}.{ext}", out=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["1/a.flac", "2/a.flac", "a.png", "residual/a.flac"]
    tracks = []
    for name in ("1/a.flac", "2/a.flac", "residual/a.flac"):
        info = soundfile.info(tmp_path / "out" / name)
        assert (info.samplerate, info.frames, info.subtype) == (16000, 16001, "PCM_24")
        tracks.append(soundfile.read(tmp_path / "out" / name)[0])
    # all three add up to what the model hears of the recording: the band below 4 kHz
    spectrum = np.fft.rfft(mixture.mean(1) - sum(tracks))
    heard = np.fft.rfftfreq(16001, 1 / 16000) < 3500
    whole = np.square(np.abs(np.fft.rfft(mixture.mean(1))[heard])).sum()
    assert np.square(np.abs(spectrum[heard])).sum() < 1e-3 * whole


def test_clipping_estimates_are_scaled_alike_or_clipped(separate, tmp_path):
    path = write(tmp_path / "loud.wav", 30000 * noise(4000), subtype="FLOAT")
    peaks = {}
    for mode in ("rescale", "clamp"):
        assert separate(path, "--clip-mode", mode, out=tmp_path / mode) == 0
        tracks = [soundfile.read(tmp_path / mode / f"loud_s{n}.wav")[0] for n in (1, 2)]
        peaks[mode] = max(np.abs(track).max() for track in tracks)
        assert peaks[mode] <= 1
        at_limit = sum((np.abs(track) > 0.999).sum() for track in tracks)
        assert at_limit <= 2 if mode == "rescale" else at_limit > 1000


@pytest.mark.slow
def test_several_processes_write_the_same_files_as_one(separate, tmp_path):
    files = [write(tmp_path / f"{n}.wav", noise(2000, n)) for n in range(3)]
    assert separate(*files, out=tmp_path / "one") == 0
    assert separate(*files, "missing.wav", "-j", "2", out=tmp_path / "two") == 2
    assert names(tmp_path / "one") == names(tmp_path / "two")
    for name in names(tmp_path / "one"):
        one, two = (soundfile.read(tmp_path / folder / name)[0] for folder in ("one", "two"))
        assert np.abs(one - two).max() <= 1 / 32768


def test_standard_input_and_json(separate, tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.wav", np.stack([noise(8000), noise(8000)], axis=1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert separate("-", "--json", "--plot", out=tmp_path / "out") == 0
    printed = capsys.readouterr()
    line = json.loads(printed.out)
    assert line["source"] == "-" and line["seconds"] == 1
    assert line["channels"] == 2 and len(line["levels_db"]) == 2
    assert [os.path.basename(name) for name in line["paths"]] == [
        "stdin_s1.wav", "stdin_s2.wav", "stdin.png"]
    assert line["depth"] >= 1 and line["real_time_factor"] > 0
    assert "2 channels are averaged" in printed.err


def test_a_truncated_file_is_separated_and_what_is_missing_is_said(separate, tmp_path, capsys):
    whole = write(tmp_path / "whole.wav", noise(8000)).read_bytes()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole[: len(whole) // 2])
    assert separate(cut, out=tmp_path / "out") == 0
    assert "cut.wav: " in (said := capsys.readouterr().err) and "what is there" in said
    assert 3900 < soundfile.info(tmp_path / "out/cut_s1.wav").frames < 4000


def test_one_voice_is_told_by_the_levels():
    assert Report(levels_db=[-20.0, -60.0]).lone_voice == 1
    assert Report(levels_db=[-20.0, -25.0]).lone_voice is None
    assert Report(levels_db=[-200.0, -200.0]).lone_voice is None


@pytest.mark.parametrize("name, samples, options", [
    ("constant.wav", np.full(800, 0.25), {}),
    ("clipped.wav", np.clip(20 * noise(800), -1, 1), {}),
    ("faint.wav", 1e-3 * noise(800), {"subtype": "FLOAT"}),  # -80 dB
    ("faint16.wav", 1e-3 * noise(800), {}),  # most samples are 0
    ("8 bit.wav", noise(800), {"subtype": "PCM_U8"}),
    ("24 bit.wav", noise(800), {"subtype": "PCM_24"}),
    ("64 bit.wav", noise(800), {"subtype": "DOUBLE"}),
    ("µ-law.au", noise(800), {"subtype": "ULAW"}),
    ("extensible.wav", noise(800), {"format": "WAVEX"}),
    ("large.rf64", noise(800), {"format": "RF64"}),
    ("sony.w64", noise(800), {}),
    ("apple.aiff", noise(800), {}),
    ("core.caf", noise(800), {}),
    ("-dash, comma.flac", noise(800), {}),
    ("vorbis.ogg", noise(800), {}),
    ("mpeg.mp3", noise(8000), {}),
])
def test_every_kind_of_file_is_separated(separate, tmp_path, name, samples, options):
    path = tmp_path / name
    soundfile.write(path, samples, 8000, **options)
    assert separate(path, out=tmp_path / "out") == 0
    for speaker in (1, 2):
        estimate, _ = soundfile.read(tmp_path / f"out/{path.stem}_s{speaker}.wav")
        assert len(estimate) == len(samples) and np.isfinite(estimate).all()


@pytest.mark.parametrize("content, said", [
    (b"", "is empty"),
    (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    (b"<!DOCTYPE html><html>", "web page"),
    (b"PK\x03\x04" + bytes(99), "zip archive"),
    (b"RIFF", "not an audio file"),
])
def test_what_is_no_audio_is_named_for_what_it_is(separate, tmp_path, capsys, content, said):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert separate(path, out=tmp_path / "out") == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert said in first and "a.wav" in first
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt, 130), (UserError("x"), 2)])
def test_what_stops_within_a_recording_leaves_no_half_file(
    separate, tmp_path, monkeypatch, error, status
):
    from papez_lobes.inference.trained import TrainedSeparator

    run, calls = TrainedSeparator.separate_with_depth, []

    def second_fails(self, mixtures):
        calls.append(mixtures.shape)
        if len(calls) == 2:
            raise error
        return run(self, mixtures)

    monkeypatch.setattr(TrainedSeparator, "separate_with_depth", second_fails)
    path = write(tmp_path / "a.wav", noise(16000))
    words = (path, "--segment", "1", "--overlap", "0.1")
    assert separate(*words, out=tmp_path / "out") == status
    assert len(calls) == 2 and names(tmp_path) == ["a.wav"]


def test_an_output_folder_that_cannot_be_made_is_one_line(separate, tmp_path, capsys):
    path = write(tmp_path / "a.wav", noise(800))
    assert separate(path, out=path) == 2  # a file is in its place
    assert "a.wav" in capsys.readouterr().err.splitlines()[0]
    assert names(tmp_path) == ["a.wav"]


def test_a_budget_is_met_on_the_first_recording_and_kept(separate, tmp_path, capsys):
    files = [write(tmp_path / f"{n}.wav", noise(16000, n)) for n in range(2)]
    assert separate(*files, "--mean-depth", "1", "--json", out=tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "depth set on" in printed.err and "mean 1.00 steps" in printed.err
    assert [json.loads(line)["depth"] for line in printed.out.splitlines()] == [1, 1]


def test_onnx_separates_on_a_cpu_as_pytorch_does(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = write(tmp_path / "a.wav", noise(8000))
    tracks = {}
    for words, engine in (
        ([], "onnx"), (["--engine", "torch"], "torch"), (["--rtf", "9"], "torch"),
    ):
        out = tmp_path / "-".join(["out", *words])
        words = ["separate", str(path), "-n", "fast", "-o", str(out), "-d", "cpu", "--json", *words]
        assert main(words) == 0
        line = json.loads(capsys.readouterr().out)
        assert line["engine"] == engine and line["bundle"] == "papez-small-8k"
        tracks[engine] = np.stack([soundfile.read(out / f"a_s{i}.wav")[0] for i in (1, 2)])
    assert np.abs(tracks["onnx"] - tracks["torch"]).max() < 1e-3


def test_processes_separate_by_onnx_too(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    paths = [str(write(tmp_path / f"{n}.wav", noise(4000, n))) for n in range(2)]
    assert main(["separate", *paths, "-o", str(tmp_path), "-j", "2", "--json", "-d", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["engine"] for line in lines] == ["onnx", "onnx"]
