"""papez_lobes.load: samples of every kind, files, and streams."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import papez_lobes
from papez_lobes.errors import UserError
from papez_lobes.inference import shipped
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.interface import SpeechSeparation
from papez_lobes.inference.windows import WindowedSeparation
from papez_lobes.scaling import match_mixture
from tests.tiny import SEPARATORS, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez_small")


@pytest.fixture(scope="module")
def separator(bundle):
    return papez_lobes.load(bundle, device="cpu")


@pytest.fixture(scope="module")
def mixture():
    return (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)


def test_the_estimates_are_speechbrains_at_the_mixtures_scale(bundle, separator, mixture):
    batch = torch.from_numpy(mixture)[None]
    estimates = load_bundle(bundle).separate_batch(batch).numpy()
    wanted = match_mixture(estimates, mixture[None])[0].T
    assert np.abs(separator.separate(mixture, 8000) - wanted).max() < 1e-6


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "float16", "float32", "float64"])
def test_samples_of_any_type_are_separated_on_their_scale(separator, mixture, kind):
    scale = {"int16": 2**15, "int32": 2**31, "uint8": 2**7}.get(kind, 1.0)
    samples = (mixture * scale).clip(0 if kind == "uint8" else None).astype(kind)
    before = samples.copy()
    estimates = separator.separate(samples, 8000)
    assert estimates.shape == (2, 4000) and estimates.dtype == np.float32
    assert (samples == before).all()
    wanted = separator.separate(samples.astype(np.float32) / scale, 8000) * scale
    assert np.abs(estimates - wanted).max() < 2e-4 * np.abs(wanted).max()


def test_finite_samples_of_any_level_have_finite_estimates_on_their_scale(separator):
    samples = np.random.default_rng(0).uniform(-1, 1, 1600).astype(np.float32)
    wanted = separator.separate(samples * np.float32(2**31), 8000) / 2**31
    for level in (1e-20, 1e20, 1e25):
        estimates = separator.separate(samples * np.float32(level), 8000)
        assert np.isfinite(estimates).all() and estimates.dtype == np.float32
        if level > 1:
            assert np.allclose(estimates / np.float32(level), wanted, atol=1e-4)
    assert np.isfinite(separator.separate(np.full(800, 2**62), 8000)).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int16])
def test_a_tensor_gives_a_tensor(separator, mixture, kind):
    samples = torch.from_numpy(mixture * (2**15 if kind == torch.int16 else 1)).to(kind)
    estimates = separator.separate(samples.requires_grad_(kind.is_floating_point), 8000)
    assert torch.is_tensor(estimates) and estimates.shape == (2, 4000)


def test_a_batch_equals_its_items(separator, mixture):
    batch = np.stack([mixture, mixture[::-1]])
    estimates = separator.separate(batch, 8000)
    assert estimates.shape == (2, 2, 4000)
    for item, own in zip(estimates, batch):
        assert np.abs(item - separator.separate(own, 8000)).max() < 1e-5


@pytest.mark.parametrize("rate", [6000, 16000, 44100])
@pytest.mark.parametrize("count", [1, 7, 4001])
def test_other_rates_give_back_the_rate_and_length_of_the_samples(separator, rate, count):
    estimates = separator.separate(np.ones(count), rate)
    assert estimates.shape == (2, count) and np.isfinite(estimates).all()


def test_silence_gives_zeros(separator):
    assert not separator.separate(np.zeros(3000), 8000).any()


@pytest.mark.parametrize("samples, rate, said", [
    (np.zeros((1, 1, 8)), 8000, r"\[T\], or \[B, T\]"),
    (np.zeros(0), 8000, "T >= 1"),
    (np.float32(1.0), 8000, r"\[T\]"),
    (np.array([1.0, np.nan]), 8000, "NaN"),
    (np.array([1j]), 8000, "complex"),
    (["a"], 8000, "must be integers or floating point"),
    (np.zeros(8), 0, "sample_rate"),
    (np.zeros(8), 8000.5, "sample_rate"),
])
def test_samples_that_cannot_be_separated_are_a_value_error(separator, samples, rate, said):
    with pytest.raises(ValueError, match=said):
        separator.separate(samples, rate)


@pytest.mark.parametrize("source", ["str", "path", "bytes", "file"])
def test_a_stereo_file_is_one_recording_however_it_is_given(
    separator, mixture, tmp_path, caplog, source
):
    path = tmp_path / "süß, stereo.wav"
    soundfile.write(path, np.stack([mixture, mixture / 2], axis=1), 8000, subtype="FLOAT")
    given = {"str": str, "path": Path, "bytes": Path.read_bytes, "file": open}[source]
    given = open(path, "rb") if source == "file" else given(path)
    estimates, rate = separator.separate_file(given, tmp_path / "out")
    assert rate == 8000 and "2 channels are averaged" in caplog.text
    assert np.abs(estimates - separator.separate(0.75 * mixture, 8000)).max() < 1e-5
    stem = path.stem if source in ("str", "path") else "recording"
    written = soundfile.read(tmp_path / f"out/{stem}_s2.wav")[0]
    assert np.abs(written - estimates[1]).max() < 1e-4


def test_a_file_that_exists_is_not_replaced_unasked(separator, mixture, tmp_path):
    soundfile.write(tmp_path / "a.wav", mixture, 8000)
    separator.separate_file(tmp_path / "a.wav", tmp_path)
    with pytest.raises(UserError, match=r"a_s1\.wav: exists"):
        separator.separate_file(tmp_path / "a.wav", tmp_path)
    separator.separate_file(tmp_path / "a.wav", tmp_path, overwrite=True)


def test_a_path_that_does_not_exist_is_named_and_no_hub_is_asked(separator, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        separator.separate_file(tmp_path / "missing.wav")
    with pytest.raises(UserError, match="no such bundle"):
        papez_lobes.load("somebody/some-model")


def test_a_long_recording_goes_through_windows(bundle, mixture, monkeypatch):
    separator = papez_lobes.load(bundle, device="cpu")
    sizes = []
    run = separator.separate_with_depth
    monkeypatch.setattr(
        separator, "separate_with_depth", lambda batch: sizes.append(batch.shape) or run(batch))
    estimates = separator.separate(np.resize(mixture, 70 * 8000), 8000)
    assert estimates.shape == (2, 70 * 8000)
    assert max(size[1] for size in sizes) <= 30 * 8000


def test_a_stream_equals_windows_over_the_whole(separator, mixture):
    stream = separator.stream(latency=0.5)
    assert isinstance(stream, WindowedSeparation) and stream.latency <= 4000
    signal = np.resize(mixture, 20000)
    pieces = [stream.feed(signal[at : at + 777]) for at in range(0, 20000, 777)]
    live = np.concatenate([*pieces, stream.flush()], axis=1)
    offline = separator.stream(latency=0.5)
    whole = np.concatenate([offline.feed(signal), offline.flush()], axis=1)
    assert live.shape == whole.shape and np.abs(live - whole).max() < 1e-6


@pytest.mark.parametrize("path", SEPARATORS, ids=lambda path: path.stem)
def test_every_separator_is_loaded_and_separates(tmp_path, mixture, path):
    separator = papez_lobes.load(write_tiny_bundle(tmp_path / "b", path.stem), device="cpu")
    estimates = separator.separate(mixture[:801], 8000)
    assert estimates.shape == (separator.num_speakers, 801) and np.isfinite(estimates).all()


def test_a_mean_depth_is_set_on_the_first_recording(bundle, mixture):
    separator = papez_lobes.load(bundle, device="cpu", mean_depth=1)
    separator.separate(np.zeros(800), 8000)  # silence says nothing about depths
    separator.separate(mixture, 8000)
    assert separator.separate_with_depth(mixture[None])[1].mean() == 1


def test_the_best_bundle_that_is_fast_enough_is_the_default(monkeypatch, caplog):
    assert shipped.candidates(None, None) == ["papez-base-8k", "papez-small-8k"]
    monkeypatch.setattr(SpeechSeparation, "measure_rtf", lambda self: 0.1)
    assert papez_lobes.load(device="cpu").path == "papez-base-8k" and not caplog.messages
    assert papez_lobes.load(device="cpu", largest_rtf=0.05).path == "papez-small-8k"
    (said,) = caplog.messages
    assert "papez-base-8k takes 0.1 of real time here" in said and "papez-small-8k is" in said
    assert papez_lobes.load("fast", device="cpu", num_speakers=2).path == "papez-small-8k"


def test_a_small_separator_is_fast(separator):
    assert 0 < separator.measure_rtf() < 0.2
