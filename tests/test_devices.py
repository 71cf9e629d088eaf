"""Devices that lack a number type, as Apple's GPUs; what is no mixture."""

import numpy as np
import pytest
import torch

from papez_lobes.devices import has_type
from papez_lobes.inference.compute_budget import depth_spread, set_mean_depth
from papez_lobes.inference.trained import TrainedSeparator
from papez_lobes.lengths import length_mask, to_counts, to_relative
from papez_lobes.recurrent import Trace
from papez_lobes.separator import Separator
from tests.without_float64 import WithoutFloat64


def elsewhere(x):
    return x.as_subclass(WithoutFloat64)


def test_estimates_are_matched_without_float64():
    sources = torch.randn(2, 800, 2)

    def separate(batch, return_trace):
        return elsewhere(sources * torch.tensor([-0.1, 7.0])), None

    separator = TrainedSeparator("bundle", separate, sample_rate=8000, num_speakers=2)
    got = separator.separate_batch(sources.sum(-1).numpy())
    assert np.allclose(got, sources, atol=1e-4) and got.dtype == np.float32


def test_lengths_are_counted_without_float64():
    counts = torch.tensor([1, 7, 160_000, 2_400_000])
    for size in (2_400_000, 3_000_000):
        lengths = to_relative(elsewhere(counts), size)
        assert lengths.dtype == torch.float32
        assert torch.equal(to_counts(lengths, size).cpu(), counts)


def test_masks_are_made_without_float64():
    mask = length_mask(elsewhere(torch.tensor([1.0, 0.5])), 4)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]


def test_depths_are_spread_without_float64(tiny, monkeypatch):
    depth = torch.tensor([[4, 2, 2, 0]])
    traces = [Trace(move(depth), move(depth > 0), None) for move in (elsewhere, lambda x: x)]
    assert depth_spread(traces[0]) == depth_spread(traces[1])
    separator, _ = tiny()
    mixture = torch.randn(1, 1000)
    expected = set_mean_depth(separator.float(), mixture, 2.5)
    forward = Separator.forward

    def on_mps(self, mixture, return_trace):
        estimates, trace = forward(self, mixture, return_trace=True)
        return estimates, Trace(elsewhere(trace.depth), elsewhere(trace.valid), None)

    monkeypatch.setattr(Separator, "forward", on_mps)
    assert set_mean_depth(separator, mixture, 2.5) == expected


def test_a_type_that_a_device_lacks_is_known(monkeypatch):
    assert has_type(torch.float64, "cpu") and has_type(torch.bfloat16, "cpu")

    def refuse(*_, **__):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch, "zeros", refuse)
    assert not has_type(torch.float64, "mps")


@pytest.mark.parametrize("name", ["papez", "papez_small"])
@pytest.mark.parametrize("wrong", [
    torch.randn(800), torch.randn(1, 1, 800), torch.ones(1, 800, dtype=torch.int16),
    torch.randn(1, 0), np.zeros((1, 800), dtype=np.float32), np.zeros((1, 800), dtype=np.int16),
    [0.0, 1.0],
], ids=["[T]", "[1, 1, T]", "int16", "empty", "numpy", "numpy int16", "list"])
def test_what_is_no_mixture_is_refused_with_the_shape_it_should_have(tiny, name, wrong):
    separator, _ = tiny(name)
    for lengths in (None, torch.tensor([0.5])):
        with pytest.raises(ValueError, match=r"expected a floating point mixture .*\[B, T\]"):
            separator(wrong, lengths)
    with pytest.raises(ValueError, match=r"expected a floating point mixture .*\[B, T\]"):
        separator.encoder(wrong)
