"""The separator: one item or a batch, any length, any level, half precision."""

import copy

import pytest
import torch
from speechbrain.lobes.models import dual_path
from torch.nn import functional as F

from papez_lobes.separator import Separator


@pytest.mark.parametrize("name", ["papez", "papez_official", "papez_small"])
@pytest.mark.parametrize("num_spks", [1, 2, 3])
def test_an_utterance_is_the_same_alone_and_in_any_batch(tiny, name, num_spks):
    separator, _ = tiny(name, num_spks=num_spks)
    mixture, counts = torch.randn(4, 257, dtype=torch.float64), [257, 100, 31, 1]
    lengths = torch.tensor(counts).double() / 257
    estimates, trace = separator(mixture, lengths, return_trace=True)
    assert estimates.shape == (4, 257, num_spks)
    for item, count in enumerate(counts):
        alone, own = separator(mixture[item : item + 1, :count], return_trace=True)
        tokens = own.depth.shape[1]
        assert torch.equal(trace.depth[item, :tokens], own.depth[0])
        torch.testing.assert_close(estimates[item, :count], alone[0], atol=1e-10, rtol=1e-8)
        assert estimates[item, count:].eq(0).all()


@pytest.mark.parametrize("name", ["papez", "papez_small"])
@pytest.mark.parametrize("execution", ["packed", "masked"])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_what_is_not_a_number_stays_in_its_item(tiny, name, execution, broken):
    separator, _ = tiny(name, execution=execution)
    mixture, lengths = torch.randn(3, 257).double(), torch.tensor([1.0, 0.3, 0.8]).double()
    expected = separator(mixture, lengths)
    mixture[broken, 5] = torch.nan
    estimates = separator(mixture, lengths)
    others = [item for item in range(3) if item != broken]
    assert estimates[broken].isnan().any()
    torch.testing.assert_close(estimates[others], expected[others])


@pytest.mark.parametrize("name", ["papez", "papez_small"])
def test_an_utterance_is_the_same_in_single_precision_too(tiny, name):
    """To 1e-5 of the signal's size, dense: near the threshold a rounding may flip a token."""
    separator, _ = tiny(name, halting_bias=-40.0)
    separator.float()
    mixture = torch.randn(2, 4000)
    together = separator(mixture, torch.tensor([1.0, 0.5]))
    alone = separator(mixture[1:, :2000])
    assert (together[1, :2000] - alone[0]).abs().max() < 1e-5 * alone.abs().max()


@pytest.mark.parametrize("name", ["papez", "papez_small"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 7, 8, 9, 100, 101])
def test_output_is_exactly_as_long_as_the_input(tiny, name, samples):
    separator, _ = tiny(name)
    estimates = separator(torch.randn(2, samples).double())
    assert estimates.shape == (2, samples, 2) and estimates.isfinite().all()


@pytest.mark.parametrize("name", ["papez", "papez_small"])
@pytest.mark.parametrize(
    "mixture", [torch.zeros(1, 500), torch.full((1, 500), 0.3), torch.ones(1, 1)]
)
def test_silence_and_constants_give_numbers(tiny, name, mixture):
    separator, _ = tiny(name)
    assert separator(mixture.double()).isfinite().all()


@pytest.mark.parametrize("name", ["papez", "papez_official", "papez_small"])
def test_every_parameter_gets_a_gradient(tiny, name):
    separator, _ = tiny(name, halting_bias=-2.0)
    lengths = torch.tensor([1.0, 0.6]).double()
    separator.train()(torch.randn(2, 300).double(), lengths).square().sum().backward()
    for key, parameter in separator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("execution", ["packed", "masked"])
def test_bfloat16_autocast_gives_numbers_near_those_of_single_precision(tiny, execution):
    separator, _ = tiny(execution=execution, halting_bias=-40.0)
    separator.float()
    mixture, lengths = torch.randn(2, 2000), torch.tensor([1.0, 0.6])
    expected = separator(mixture, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        got = separator(mixture, lengths)
    assert (got.float() - expected).square().mean() < 0.01 * expected.square().mean()


@pytest.mark.parametrize("execution", ["packed", "masked"])
def test_gradients_in_bfloat16_are_near_those_of_single_precision(tiny, execution):
    separator, _ = tiny(execution=execution, halting_bias=-40.0)
    mixture, lengths = torch.randn(2, 2000), torch.tensor([1.0, 0.6])
    target, gradients = torch.randn(2, 2000, 2), []
    for enabled in (False, True):
        separator.float().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            estimates = separator(mixture, lengths)
        (estimates.float() * target).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in separator.parameters()]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("execution", ["packed", "masked"])
def test_half_precision_counts_all_tokens_of_a_long_input(tiny, execution):
    separator, _ = tiny(execution=execution)
    with torch.autocast("cpu", torch.bfloat16):
        _, trace = separator.float()(torch.randn(1, 4 * 2100), return_trace=True)
    assert trace.valid.all() and (trace.depth > 0).all()


def test_copies_and_state_dicts_round_trip(tiny):
    separator, _ = tiny(seed=1)
    mixture = torch.randn(1, 333).double()
    expected = separator(mixture)
    assert torch.equal(copy.deepcopy(separator)(mixture), expected)
    other, _ = tiny(seed=2)
    other.load_state_dict(separator.state_dict())
    assert torch.equal(other(mixture), expected)


def test_separation_does_not_change_its_input(tiny):
    separator, _ = tiny()
    mixture, lengths = torch.randn(2, 100).double(), torch.tensor([1.0, 0.5]).double()
    kept = mixture.clone()
    separator(mixture, lengths)
    assert torch.equal(mixture, kept)


def stock_separator():
    torch.manual_seed(0)
    inner = dual_path.DPTNetBlock(d_model=8, nhead=2)
    masknet = dual_path.Dual_Path_Model(
        8, 8, inner, copy.deepcopy(inner), num_layers=1, K=10, num_spks=2, norm="ln"
    )
    encoder = dual_path.Encoder(kernel_size=16, out_channels=8)
    decoder = dual_path.Decoder(8, 1, kernel_size=16, stride=8, bias=False)
    return Separator(encoder, masknet, decoder).eval()


def test_stock_modules_run_item_by_item_where_lengths_differ():
    separator, mixture = stock_separator(), torch.randn(2, 400)
    estimates, trace = separator(mixture, torch.tensor([1.0, 0.5]), return_trace=True)
    assert trace is None and estimates.shape == (2, 400, 2)
    torch.testing.assert_close(estimates[1:, :200], separator(mixture[1:, :200]))
    assert estimates[1, 200:].eq(0).all()
