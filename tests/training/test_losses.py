"""SI-SNR and its permutation-invariant loss."""

import itertools

import pytest
import torch
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

from papez_lobes.training.losses import pit_si_snr, pit_si_snr_loss, reorder, score


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
    values, _ = pit_si_snr(estimate, source, eps=1e-20)
    torch.testing.assert_close(values, torch.full((2, 1), -noise_db).double(), atol=1e-9, rtol=0)


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
    pairs = [[pit_si_snr(estimates[..., [e]], sources[..., [s]])[0][:, 0] for s in range(speakers)]
             for e in range(speakers)]
    best = torch.stack([
        torch.stack([pairs[e][s] for s, e in enumerate(order)], -1).mean(-1)
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


@pytest.mark.parametrize("silent", [0, 1, 2])
@pytest.mark.parametrize("level", [1e-20, 1e-10, 1.0, 1e10, 1e20])
def test_losses_and_scores_of_finite_signals_are_finite_from_1e_20_to_1e25(level, silent):
    torch.manual_seed(5)
    sources = torch.randn(1, 500, 2) * level
    sources[..., :silent] = 0
    for loudness in (1e-20, 1.0, 1e20, 1e25):
        estimates = (torch.randn(1, 500, 2) * loudness).requires_grad_()
        loss = pit_si_snr_loss(estimates, sources)
        loss.sum().backward()
        assert loss.isfinite().all() and estimates.grad.isfinite().all()
        scores = score(estimates, sources, sources.sum(-1))
        assert scores.si_snr.isfinite().all() and scores.si_snr_i.isfinite().all()


def test_the_scale_of_very_loud_signals_does_not_count():
    torch.manual_seed(6)
    sources = torch.randn(2, 500, 2)
    estimates = sources.flip(-1) + 0.1 * torch.randn(2, 500, 2)
    expected = pit_si_snr_loss(estimates, sources)
    torch.testing.assert_close(pit_si_snr_loss(1e25 * estimates, 1e20 * sources), expected)


def plain_loss(estimates, sources, eps=1e-8):
    """The loss of earlier versions, by its formula, of estimates in the sources' order."""
    e = (estimates - estimates.mean(1, keepdim=True)).transpose(1, 2).contiguous()
    s = (sources - sources.mean(1, keepdim=True)).transpose(1, 2).contiguous()
    energy = (s.unsqueeze(-2) @ s.unsqueeze(-1)).squeeze(-1)
    scale = (e.unsqueeze(-2) @ s.unsqueeze(-1)).squeeze(-1) / (energy + eps)
    target = (scale.square() * energy).squeeze(-1)
    residual = torch.addcmul(e, scale, s, value=-1).square().sum(-1)
    return -(10 * torch.log10((target + eps) / (residual + eps))).mean(-1)


@pytest.mark.parametrize("level", [1e-3, 1.0, 3e4])
def test_where_all_sources_speak_the_loss_is_bit_for_bit_that_of_earlier_versions(level):
    torch.manual_seed(7)
    sources = torch.randn(5, 700, 3) * torch.tensor([level, 1e-2, 1.0])
    estimates = (sources * (1 + 0.3 * torch.randn(5, 700, 3))).requires_grad_()
    old, new = plain_loss(estimates, sources), pit_si_snr_loss(estimates, sources)
    assert torch.equal(old, new)
    gradients = [torch.autograd.grad(loss.sum(), estimates)[0] for loss in (old, new)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_a_silent_sources_estimate_is_measured_against_the_mixture_down_to_30_db():
    source = orthogonal(1, 500, 1)[..., 0]
    sources = torch.stack([torch.zeros_like(source), source], -1)
    for gain, expected in ((1.0, 0.0), (0.1, 20.0), (1e-6, 30.0), (0.0, 30.0)):
        estimates = torch.stack([source * 3, gain * source.roll(1, 1)], -1)
        values, permutation = pit_si_snr(estimates, sources)
        assert permutation.tolist() == [[1, 0]] and values[0, 1] > 100
        assert values[0, 0].item() == pytest.approx(expected, abs=0.5)


def test_training_on_one_speaker_alone_pushes_the_other_estimate_towards_silence(tiny):
    separator = tiny(num_steps=2)[0].float().train()
    torch.manual_seed(8)
    source = torch.randn(1, 200)
    sources = torch.stack([source, torch.zeros_like(source)], -1)
    optimizer = torch.optim.Adam(separator.parameters(), lr=0.02)
    levels = []
    for _ in range(15):
        estimates = separator(source)
        levels.append(pit_si_snr(estimates, sources)[0][0, 1].item())
        optimizer.zero_grad()
        pit_si_snr_loss(estimates, sources).mean().backward()
        optimizer.step()
    assert levels[-1] > levels[0] + 6


class NoFloat64(torch.overrides.TorchFunctionMode):
    """Every tensor that was not copied to the CPU counts as one of a device without float64."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        flat = torch.utils._pytree.tree_leaves((arguments, options))
        copied = function is torch.Tensor.cpu or any(getattr(x, "copied", False) for x in flat)
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                tensor.copied = copied
                on_device = any(isinstance(x, torch.Tensor) for x in flat) and not copied
                assert not (on_device and tensor.dtype == torch.float64), function
        return result


def test_no_float64_is_on_the_device():
    torch.manual_seed(9)
    sources, estimates, lengths = torch.randn(2, 300, 2), torch.randn(2, 300, 2), torch.ones(2)
    with NoFloat64():
        pit_si_snr_loss(estimates, sources)
        score(estimates, sources, sources.sum(-1), lengths)
        with pytest.raises(AssertionError):
            sources.double()


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


def test_one_speaker_alone_does_not_outweigh_the_other_mixtures():
    """SI-SNR's gradient grows as the error falls: a lone voice is limited to 30 dB."""
    torch.manual_seed(0)
    sources = torch.randn(2, 4000, 2)
    sources[0, :, 1] = 0
    estimates = (sources + 1e-5 * torch.randn_like(sources)).requires_grad_()
    loss = pit_si_snr_loss(estimates, sources)
    assert loss[0].item() == pytest.approx(-30, abs=0.1) and loss[1] < -90
    gradients = torch.autograd.grad(loss.sum(), estimates)[0]
    alone, both = gradients.abs().amax(dim=(1, 2))
    assert torch.isfinite(gradients).all() and alone < 0.01 * both
    assert pit_si_snr_loss(estimates[1:], sources[1:]) == loss[1]
