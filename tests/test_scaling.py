"""The scale of estimates: silence, copies, and least squares."""

import numpy as np
import pytest

from papez_lobes.scaling import match_mixture


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("count", (1, 2, 3))
def test_matched_estimates_sum_to_the_mixture(count):
    sources = noise(2, 900, count).astype(np.float32)
    sources[1, 500:] = 0
    mixtures = sources.sum(axis=2)
    estimates = sources * np.float32([-3.0, 0.02, 50.0][:count])
    matched = match_mixture(estimates, mixtures)
    assert np.allclose(matched, sources, atol=1e-4, rtol=1e-3) and matched.dtype == np.float32
    same = np.repeat(estimates[..., :1], 2, axis=2)  # estimates that are one and the same
    assert np.allclose(match_mixture(same, sources[..., 0]).sum(axis=2), sources[..., 0], atol=1e-6)
    assert not match_mixture(estimates, np.zeros_like(mixtures)).any()
    assert not match_mixture(np.zeros_like(estimates), mixtures).any()
    assert not match_mixture(np.zeros_like(estimates, np.float64), mixtures).any()


@pytest.mark.parametrize("faint", [0.01, -0.01, 0.01 + 1e-9, 1.0, -1.0])
@pytest.mark.parametrize("level", [0, 1e-4, 1e-3])
def test_copies_of_the_only_voice_keep_their_levels(faint, level):
    voice, around, added = noise(3, 1, 8000).astype(np.float32)
    mixture = voice + np.float32(0.1) * around
    copy = np.float32(faint) * (voice + np.float32(level) * added)
    matched = match_mixture(np.stack([voice, copy], axis=2), mixture)
    levels = matched.std(axis=1)[0]
    assert levels[1] / levels[0] == pytest.approx(abs(faint), rel=1e-2)
    assert (matched.sum(axis=2) - mixture).std() == pytest.approx(0.1, rel=0.05)
    assert (matched[..., 1] * voice).sum() > 0  # both have the mixture's sign


def test_gains_of_estimates_that_differ_are_those_of_least_squares():
    sources = noise(1, 8000, 3)
    estimates = (sources + 0.4 * np.roll(sources, 1, axis=2)) * [1e-3, -1.0, 50.0]
    gains = np.linalg.lstsq(estimates[0], sources[0].sum(axis=1))[0]
    matched = match_mixture(estimates, sources.sum(axis=2))
    assert np.allclose(matched, estimates * gains, atol=1e-9, rtol=1e-9)
