"""Separation in windows: any split gives the same, exact length, speakers keep their output."""

import numpy as np
import pytest

from papez_lobes.inference.windows import WindowedSeparation

SHAPES = [
    (800, 600, {}),
    (4000, 100, {"look_ahead": 30, "fade": 200, "first": 400}),
    (10, 3, {"look_ahead": 0, "fade": 0}),
]


def split(mixtures):
    """Both outputs are parts of the mixture."""
    return np.stack([mixtures * 0.3, mixtures * 0.7], axis=-1)


def run(windows, signal, piece):
    pieces = [windows.feed(signal[at:at + piece]) for at in range(0, len(signal), piece)]
    return np.concatenate([*pieces, windows.flush()], axis=1)


@pytest.mark.parametrize("window, hop, options", SHAPES)
@pytest.mark.parametrize("size", [0, 1, 7, 800, 801, 4000, 12345])
def test_any_split_gives_the_same_in_full_length(window, hop, options, size):
    signal = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    windows = WindowedSeparation(split, 2, window, hop, **options)
    whole = run(windows, signal, max(size, 1))
    assert whole.shape == (2, size)
    np.testing.assert_allclose(whole.sum(axis=0), signal, atol=1e-6)
    for piece in (1, 13, 977, 10000):
        assert np.array_equal(run(windows, signal, piece), whole)
