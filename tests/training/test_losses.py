"""SI-SNR and its permutation-invariant loss."""

import itertools

import pytest
import torch
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

from papez_lobes.training.losses import pairwise_si_snr, pit_si_snr, pit_si_snr_loss, reorder
from papez_lobes.training.si_snr import score


def orthogonal(batch=2, samples=4000, speakers=3, seed=0):
    """Zero-mean, mutually orthogonal unit signals [B, T, C]."""
    torch.manual_seed(seed)
    signals = torch.randn(batch, samples, speakers, dtype=torch.float64)
    return torch.linalg.qr(signals - signals.mean(1, keepdim=True))[0] * 10


@pytest.mark.parametrize("gain", [1.0, -0.01, 300.0])
@pytest.mark.parametrize("noise_db", [0.0, -10.0, -37.5])
def test_si_snr_equals_its_closed_form(gain, noise_db):
    basis = orthogonal()
    source, noise = basis[..., :1], basis[..., 1:2]
    estimate = gain * (source + 10 ** (noise_db / 20) * noise) + 5.0  # a constant does not count
    torch.testing.assert_close(
        pairwise_si_snr(estimate, source, eps=1e-20), torch.full((2, 1, 1), -noise_db).double(),
        atol=1e-9, rtol=0,
    )


@pytest.mark.parametrize("speakers", [1, 2, 3, 4])
def test_every_permutation_is_found(speakers):
    sources = orthogonal(1, 500, speakers)
    for order in itertools.permutations(range(speakers)):
        estimates = sources[..., list(order)] + 0.1 * sources.sum(-1, True)
        values, permutation = pit_si_snr(estimates, sources)
        assert [order[i] for i in permutation[0].tolist()] == list(range(speakers))
        assert torch.equal(reorder(sources[..., list(order)], permutation), sources)
        assert (values > 10).all()


@pytest.mark.parametrize("speakers", [2, 3])
def test_permutation_is_the_best_of_all(speakers):
    torch.manual_seed(1)
    estimates, sources = torch.randn(4, 300, speakers), torch.randn(4, 300, speakers)
    pairs = pairwise_si_snr(estimates, sources)
    best = torch.stack([
        torch.stack([pairs[:, e, s] for s, e in enumerate(order)], -1).mean(-1)
        for order in itertools.permutations(range(speakers))
    ]).max(dim=0).values
    torch.testing.assert_close(-pit_si_snr_loss(estimates, sources), best)


def test_it_equals_speechbrain_and_torchmetrics_on_whole_batches():
    torch.manual_seed(2)
    sources = torch.randn(3, 2000, 2)
    estimates = sources.flip(-1) + 0.5 * torch.randn(3, 2000, 2)
    theirs = get_si_snr_with_pitwrapper(sources.clone(), estimates.clone())
    torch.testing.assert_close(pit_si_snr_loss(estimates, sources), theirs, atol=1e-4, rtol=0)
    audio = pytest.importorskip("torchmetrics.functional.audio")
    values, _ = audio.permutation_invariant_training(
        estimates.transpose(1, 2), sources.transpose(1, 2),
        audio.scale_invariant_signal_noise_ratio, eval_func="max",
    )
    torch.testing.assert_close(-pit_si_snr_loss(estimates, sources), values, atol=1e-4, rtol=0)


def test_only_true_lengths_count_and_nothing_is_changed_in_place():
    torch.manual_seed(3)
    estimates, sources = torch.randn(2, 100, 2), torch.randn(2, 100, 2)
    kept = estimates.clone(), sources.clone()
    lengths = torch.tensor([1.0, 0.4])
    got = pit_si_snr_loss(estimates, sources, lengths)
    assert torch.equal(estimates, kept[0]) and torch.equal(sources, kept[1])
    torch.testing.assert_close(got[1:], pit_si_snr_loss(estimates[1:, :40], sources[1:, :40]))
    estimates[1, 40:] = float("nan")
    torch.testing.assert_close(got, pit_si_snr_loss(estimates, sources, lengths))


@pytest.mark.parametrize("estimate", ["zeros", "ones", "noise", "source"])
@pytest.mark.parametrize("source", ["zeros", "noise"])
def test_silence_gives_finite_values_and_gradients(estimate, source):
    torch.manual_seed(4)
    shape = (1, 200, 2)
    signals = {"zeros": torch.zeros(shape), "ones": torch.ones(shape), "noise": torch.randn(shape)}
    sources = signals[source].clone()
    sources[..., 1] = torch.randn(1, 200)
    estimates = (sources if estimate == "source" else signals[estimate]).clone().requires_grad_()
    loss = pit_si_snr_loss(estimates, sources)
    loss.sum().backward()
    assert loss.isfinite().all() and estimates.grad.isfinite().all()


def test_nan_reaches_the_loss():
    estimates = torch.full((1, 50, 2), float("nan"))
    assert pit_si_snr_loss(estimates, torch.randn(1, 50, 2)).isnan().all()


def test_improvement_is_over_the_mixture():
    basis = orthogonal(1, 4000, 3)
    sources = basis[..., :2] * torch.tensor([1.0, 0.5])
    mixture = sources.sum(-1)
    estimates = sources.flip(-1) + 0.1 * basis[..., 2:]
    scores = score(estimates, sources, mixture)
    expected = torch.tensor([[20.0, 20.0 - 20 * 0.30103]]).double()
    torch.testing.assert_close(scores.si_snr, expected, atol=1e-3, rtol=0)
    before = torch.tensor([[20 * 0.30103, -20 * 0.30103]]).double()
    torch.testing.assert_close(scores.si_snr_i, expected - before, atol=1e-3, rtol=0)
    assert scores.permutation.tolist() == [[1, 0]]
