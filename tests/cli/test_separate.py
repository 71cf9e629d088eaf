"""papez separate, with files of every kind."""

import numpy as np
import pytest
import soundfile

from papez_lobes.cli.main import main
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez")


def write(path, samples, rate=8000, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def separate(bundle, out, *files):
    return main(["separate", *map(str, files), "--bundle", str(bundle), "--out", str(out)])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_any_rate_width_and_channels_are_separated(bundle, tmp_path, rate, channels, subtype):
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal((rate // 4, channels))
    path = write(tmp_path / "ein Gemisch ü.wav", noise, rate, subtype)
    assert separate(bundle, tmp_path / "out", path) == 0
    for speaker in (1, 2):
        info = soundfile.info(tmp_path / f"out/ein Gemisch ü_s{speaker}.wav")
        assert (info.samplerate, info.channels, info.frames) == (8000, 1, 2000)


def test_estimates_sum_to_the_mixture_as_far_as_they_can(bundle, tmp_path):
    mixture = 0.3 * np.random.default_rng(1).standard_normal(4000)
    separate(bundle, tmp_path, write(tmp_path / "mix.wav", mixture, subtype="FLOAT"))
    estimates = np.stack([soundfile.read(tmp_path / f"mix_s{i}.wav")[0] for i in (1, 2)])
    residual = np.square(mixture - estimates.sum(0)).sum()
    assert residual < np.square(mixture).sum()
    for gains in ((1.05, 1.0), (0.95, 1.0), (1.0, 1.05), (1.0, 0.95)):
        assert np.square(mixture - gains @ estimates).sum() > residual * 0.9999


@pytest.mark.parametrize("samples", [np.zeros(3000), np.zeros(1), np.ones(1), np.full(5, 0.5)])
def test_silence_and_single_samples_are_separated(bundle, tmp_path, samples):
    assert separate(bundle, tmp_path / "out", write(tmp_path / "a.wav", samples)) == 0
    estimate, _ = soundfile.read(tmp_path / "out/a_s1.wav")
    assert len(estimate) == len(samples) and np.isfinite(estimate).all()
    assert samples.any() or not estimate.any()


def test_a_bad_file_is_named_and_the_others_are_done(bundle, tmp_path, capsys):
    good = write(tmp_path / "good.wav", np.zeros(800))
    bad = tmp_path / "bad.wav"
    bad.write_text("not audio")
    nan = write(tmp_path / "nan.wav", np.full(800, np.nan), subtype="FLOAT")
    status = separate(bundle, tmp_path / "out", bad, good, nan, tmp_path / "missing.wav")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("papez")]
    assert status == 2 and len(lines) == 4
    for line, name in zip(lines, ("bad.wav", "nan.wav", "missing.wav", "3 of 4 files")):
        assert name in line
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["good_s1.wav", "good_s2.wav"]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["separate", "a.wav", "--bundle", "/nowhere", "--out", "o"], "/nowhere"),
        (["separate", "a.wav", "b/a.wav", "--bundle", "x", "--out", "o"], "a_s1.wav"),
        (["separate", "a.wav", "--bundle", "BUNDLE", "--out", "o", "--device", "tpu"], "tpu"),
    ],
)
def test_mistakes_are_one_line(bundle, capsys, argv, message):
    argv = [str(bundle) if word == "BUNDLE" else word for word in argv]
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_an_input_is_never_overwritten(bundle, tmp_path, capsys):
    files = [write(tmp_path / name, np.zeros(800)) for name in ("x.wav", "x_s1.wav")]
    before = files[1].read_bytes()
    assert separate(bundle, tmp_path, *files) == 2
    assert "x_s1.wav: would be overwritten" in capsys.readouterr().err
    assert files[1].read_bytes() == before
