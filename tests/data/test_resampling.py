"""Resampling: MATLAB's filter by its definition, lengths, and tones that stay in place."""

import pickle

import numpy as np
import pytest

from papez_lobes.data.resampling import Resampler, resample


def by_definition(samples, up, down):
    """y[m] = sum over k of x[k] h(m down - k up), h a windowed sinc that sums to `up`."""
    factor = max(up, down)
    taps = np.arange(-10 * factor, 10 * factor + 1)
    low_pass = np.sinc(taps / factor) * np.kaiser(len(taps), 5.0)
    low_pass *= up / low_pass.sum()
    count = -(-len(samples) * up // down)
    distance = np.arange(count)[:, None] * down - np.arange(len(samples)) * up
    inside = np.abs(distance) <= 10 * factor
    weights = np.where(inside, low_pass[np.where(inside, distance, 0) + 10 * factor], 0)
    return weights @ samples


@pytest.mark.parametrize("from_rate, to_rate, up, down", [
    (16000, 8000, 1, 2), (8000, 16000, 2, 1), (44100, 8000, 80, 441), (12000, 16000, 4, 3),
    (4409, 800, 800, 4409), (800, 4409, 4409, 800),  # of large numbers
])
def test_the_filter_is_that_of_matlab(from_rate, to_rate, up, down):
    rng = np.random.default_rng(0)
    for count in (1, 7, 500):
        samples = rng.standard_normal(count)
        wanted = by_definition(samples, up, down)
        resampled = resample(samples, from_rate, to_rate)
        assert resampled.dtype == np.float64
        np.testing.assert_allclose(resampled, wanted, atol=1e-12)
        single = resample(samples.astype(np.float32), from_rate, to_rate)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, wanted, atol=1e-5)


@pytest.mark.parametrize("rates", [(48000, 8000), (8000, 16000), (44100, 8000), (11025, 16000)])
def test_resampled_length_is_the_ceiling_for_every_length(rates):
    for count in range(1, 40):
        assert len(resample(np.ones(count), *rates)) == -(-count * rates[1] // rates[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_no_samples_and_one_sample_are_resampled(dtype):
    for rates in ((48000, 8000), (8000, 16000), (44100, 8000)):
        assert resample(np.zeros(0, dtype), *rates).shape == (0,)
        one = resample(np.ones(1, dtype), *rates)
        assert np.isfinite(one).all() and len(one) == -(-rates[1] // rates[0])


def test_the_same_rate_changes_nothing():
    samples = np.random.default_rng(0).standard_normal(100)
    np.testing.assert_array_equal(resample(samples, 8000, 8000), samples)


@pytest.mark.parametrize("rates", [(8400, 8000), (6800, 8000), (16000, 8000), (8000, 44100)])
@pytest.mark.parametrize("count", [1, 7, 100, 24001])
def test_single_precision_gives_the_same_samples(rates, count):
    samples = np.random.default_rng(0).normal(size=count)
    single = resample(samples.astype(np.float32), *rates)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, resample(samples, *rates), atol=1e-5)


RATES = [
    (48000, 8000), (8000, 48000), (44100, 16000), (16000, 16000), (44099, 8000), (8000, 22257),
]


@pytest.mark.parametrize("rates", RATES)
def test_a_signal_in_pieces_is_resampled_as_at_once(rates):
    rng = np.random.default_rng(0)
    signal = rng.uniform(-1, 1, (2, 15001)).astype(np.float32)
    pieces, resampler, begin = [], Resampler(*rates), 0
    for size in (0, 1, 1, 7, 5000, 0, 3, 9989):
        pieces.append(resampler.feed(signal[:, begin : begin + size]))
        resampler = pickle.loads(pickle.dumps(resampler))
        begin += size
    pieces.append(resampler.flush())
    together = np.concatenate(pieces, axis=-1)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, resample(signal, *rates), atol=1e-6)
    np.testing.assert_allclose(together[1], resample(signal[1], *rates), atol=1e-6)


@pytest.mark.parametrize("rates", RATES)
def test_there_and_back_gives_as_many_samples_as_there_were(rates):
    for count in (1, 2, 7, 1000, 11111):
        there, back = Resampler(*rates), Resampler(*rates[::-1])
        pieces = [back.feed(there.feed(np.ones(count))), back.feed(there.flush())]
        assert sum(map(len, [*pieces, back.flush(count)])) == count
    assert Resampler(*rates).flush().size == 0
