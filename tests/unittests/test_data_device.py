"""Batches made in torch: the same mixtures as the renderer's, on whatever device."""

import numpy as np
import pytest
import torch

from papez_lobes.data import device_levels, dynamic, levels
from papez_lobes.data.audio import write_audio
from papez_lobes.data.device_rendering import _resample, record_plan, render_batch
from papez_lobes.data.mixing import MixturePlan, Piece, SourcePlan
from papez_lobes.data.rendering import render
from papez_lobes.data.resampling import resample

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"))]


def speech(seed, rate, seconds):
    """Bursts of noise over a wide range of levels."""
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.uniform(0, 1, round(10 * seconds)) ** 3, rate // 10)
    return (envelope * rng.normal(0, 0.1, len(envelope))).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for number, (rate, seconds) in enumerate(((8000, 2.0), (16000, 3.0), (22050, 1.5))):
        write_audio(folder / f"{number}.wav", speech(number, rate, seconds), rate)
    write_audio(folder / "street.wav", speech(9, 16000, 4.0), 16000)
    response = np.zeros(900)
    response[[40, 300, 700]] = 0.8, 0.3, -0.2
    write_audio(folder / "room.wav", response, 8000)
    return folder


def source(index, **options):
    return SourcePlan(f"speaker {index}", (-1) ** index * 1.7, (
        Piece(f"{index}.wav", 100, 9000), Piece(f"{(index + 1) % 3}.wav", pause=0.21)), **options)


PLANS = {
    "plain": [MixturePlan(f"p{i}", seconds, (source(i % 3), source((i + 1) % 3)))
              for i, seconds in enumerate((None, 1.25, 0.3))],
    "three speakers": [MixturePlan("p", 2.0, (source(0), source(1), source(2)))],
    "one speaker": [MixturePlan("p", None, (source(1),))],
    "speed": [MixturePlan(f"p{i}", 1.5, (source(0, speed=s), source(1, speed=2 - s)))
              for i, s in enumerate((0.95, 1.0, 1.03))],
    "rooms": [MixturePlan("p", 1.5, (source(0, room="room.wav"), source(1))),
              MixturePlan("q", None, (source(2), source(1, room="room.wav")))],
    "noise": [MixturePlan("p", 1.5, (source(0), source(1)), (Piece("street.wav"),), 3.0),
              MixturePlan("q", None, (source(0), source(1)), (Piece("street.wav", 0, 4000),), -2.0),
              MixturePlan("r", 0.7, (source(2), source(1)))],
}


def reader(root):
    from papez_lobes.data.rendering import _read_file

    return lambda *piece: _read_file(root, *piece)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("name", PLANS)
def test_a_batch_is_what_the_renderer_makes_one_by_one(root, name, rate, device):
    batch = [record_plan(plan, reader(root)) for plan in PLANS[name]]
    mixtures, sources, lengths = render_batch(batch, rate, device)
    assert mixtures.device.type == device and mixtures.dtype == torch.float32
    for index, plan in enumerate(PLANS[name]):
        mixture, parts = render(plan, rate, root)
        assert lengths[index] == len(mixture)
        got = mixtures[index].cpu().numpy(), sources[index].cpu().numpy()
        np.testing.assert_allclose(got[0][: len(mixture)], mixture, atol=1e-5)
        np.testing.assert_allclose(got[1][: len(mixture)], parts, atol=1e-5)
        assert not got[0][len(mixture):].any() and not got[1][len(mixture):].any()
        if not plan.noise:
            assert torch.equal(mixtures[index], sources[index].T.sum(dim=0))


@pytest.mark.parametrize("rates", [(16000, 8000), (8000, 16000), (8400, 8000), (44100, 8000)])
@pytest.mark.parametrize("samples", [1, 7, 1000])
def test_resampling_is_that_of_the_house(rates, samples):
    x = np.random.default_rng(samples).normal(0, 0.1, samples)
    got = _resample(torch.from_numpy(x).float()[None], *rates)[0].numpy()
    np.testing.assert_allclose(got, resample(x, *rates), atol=2e-6)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_levels_are_those_of_single_signals(rate):
    signals = [speech(seed, rate, seconds) for seed, seconds in ((0, 3.0), (1, 0.4), (2, 6.1))]
    signals += [1e-3 * signals[0], np.zeros(100, np.float32), np.ones(1, np.float32) * 0.2]
    batch = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, signals)), batch_first=True)
    lengths = torch.tensor([len(signal) for signal in signals])
    got = device_levels.active_speech_levels(batch, lengths, rate).numpy()
    for power, signal in zip(got, signals):
        expected, _ = levels.active_speech_level(signal, rate)
        assert power == pytest.approx(expected, rel=10**1e-4 - 1)  # 1e-3 dB


@pytest.mark.parametrize("window", [1, 3, 7, 40])
def test_running_maxima_are_those_of_each_window(window):
    x = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (3, 25)))
    got = device_levels._running_maximum(x, window)
    for end in range(25):
        assert torch.equal(got[:, end], x[:, max(0, end - window + 1) : end + 1].amax(dim=1))


def test_the_data_set_of_a_training_gives_the_same_mixtures_and_passes_silence_by(tmp_path):
    for name in ("ann", "bob", "eve"):
        write_audio(tmp_path / f"speech/{name}/1.wav", speech(len(name) + ord(name[0]), 8000, 3.0),
                    8000)
    write_audio(tmp_path / "speech/eve/2.wav", np.zeros(24000), 8000)
    wanted, got = (
        dynamic.dynamic_mixtures(tmp_path / "speech", tmp_path / "store", 2, 8000, 20, 1.0, seed=4,
                                 speed_change=0.05, on_device=on_device)
        for on_device in (False, True)
    )
    plans = {wanted.plan(index).name for index in range(20)}
    items = [wanted[index] for index in range(20)]
    batch = got.collate([got[index] for index in range(20)])
    assert batch.id == [item["id"] for item in items] and set(batch.id) != plans  # some were silent
    with torch.autocast("cpu", torch.bfloat16):
        batch.to("cpu")
    assert batch.mix_sig.lengths.tolist() == [1.0] * 20 and len(batch) == 20
    for index, item in enumerate(items):
        torch.testing.assert_close(batch.mix_sig.data[index], item["mix_sig"], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.sources.data[index], item["sources"], atol=1e-5, rtol=0)


def test_a_source_without_a_level_stays_silent():
    plan = MixturePlan("p", None, (SourcePlan("a", 0.0, (Piece("a"),)),
                                   SourcePlan("b", 0.0, (Piece("b"),))))
    sounds = {"a": speech(0, 8000, 1.0), "b": np.zeros(8000, np.float32)}
    recorded = record_plan(plan, lambda kind, path, *place: (sounds[path], 8000))
    mixtures, sources, _ = render_batch([recorded], 8000)
    assert mixtures.isfinite().all() and not sources[..., 1].any() and sources[..., 0].any()
