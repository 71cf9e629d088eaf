"""The lobes by blocks of rows give what the plain lobes give."""

import copy

import pytest
import torch

from papez_lobes.ablations import DisjointBlock
from papez_lobes.config.separator_files import build_modules, separator_file
from papez_lobes.fast import blocking
from papez_lobes.fast.blocking import by_rows, row_blocks
from papez_lobes.fast.lobes import BlockwiseBlock, BlockwiseMLP, swap_in
from papez_lobes.fast.precision import lower_precision
from papez_lobes.norms import NormedMLP
from papez_lobes.profiling.cost import count_macs
from papez_lobes.separator import Separator
from tests.tiny import tiny_hparams

PAPEZ = separator_file("papez")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocking, "ROWS_AT_A_TIME", 7)
    monkeypatch.setattr(blocking, "NUMBERS_AT_A_TIME", 3 * 18 * 48)


def build(name="papez", **options):
    torch.manual_seed(0)
    path = separator_file(name)
    known = {"num_steps": 5, "chunk_tokens": 8, "num_slots": 10, "halting_bias": -0.5} | options
    return Separator(**build_modules(path, tiny_hparams(path, **known))).eval()


def both(name="papez", dtype=torch.float64, **options):
    """A separator as it is built, and the same by blocks of rows."""
    plain = build(name, **options).to(dtype)
    fast = copy.deepcopy(plain)
    swap_in(fast.parts)
    return plain, fast


def assert_same(plain, fast, mixture, lengths=None):
    with torch.inference_mode():
        expected, trace = plain(mixture, lengths, return_trace=True)
        got, other = fast(mixture, lengths, return_trace=True)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-8)
    assert torch.equal(trace.depth, other.depth)


@pytest.mark.parametrize("options", [
    {}, {"num_slots": 0}, {"pruning": "soft"}, {"execution": "masked"}, {"halting_bias": -9.0},
    {"pruning": "soft", "attend_padding": True},
])
@pytest.mark.parametrize("lengths", [None, [1.0, 0.6, 0.02]])
def test_fast_equals_plain(small_blocks, options, lengths):
    lengths = None if lengths is None else torch.tensor(lengths, dtype=torch.float64)
    assert_same(*both(**options), torch.randn(3, 700, dtype=torch.float64), lengths)


@pytest.mark.parametrize("execution", ["packed", "masked"])
def test_fast_computes_no_more_than_plain(small_blocks, execution):
    mixture = torch.randn(2, 400, dtype=torch.float64)
    plain, fast = both(execution=execution)
    assert count_macs(lambda: plain(mixture)) == count_macs(lambda: fast(mixture))


@pytest.mark.parametrize("samples", [1, 40, 1500])
def test_fast_equals_plain_on_a_spectrogram(small_blocks, samples):
    assert_same(*both("papez_small", num_slots=3), torch.randn(2, samples, dtype=torch.float64))


def test_an_ablation_keeps_its_own_part(small_blocks):
    path = PAPEZ.parent / "ablations/disjoint_chunks.yaml"
    plain = Separator(**build_modules(path, tiny_hparams(path))).double().eval()
    fast = copy.deepcopy(plain)
    swap_in(fast.parts)
    block = fast.masknet.transformer.block
    assert isinstance(block, BlockwiseBlock) and isinstance(block, DisjointBlock)
    assert_same(plain, fast, torch.randn(2, 1500, dtype=torch.float64))


def test_with_gradients_it_is_the_plain_one(small_blocks):
    gradients = []
    for separator in both():
        separator(torch.ones(2, 1500).double().cumsum(1).sin()).square().sum().backward()
        gradients.append([parameter.grad for parameter in separator.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("execution", ["packed", "masked"])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.02)])
def test_the_size_of_blocks_does_not_matter(monkeypatch, dtype, tolerance, execution):
    results = []
    for size in (7, 10**6):
        monkeypatch.setattr(blocking, "ROWS_AT_A_TIME", size)
        monkeypatch.setattr(blocking, "NUMBERS_AT_A_TIME", 200 * size)
        separator = build(halting_bias=-9.0, execution=execution)
        lower_precision(separator.parts, dtype)
        with torch.inference_mode():
            results.append(separator(torch.ones(2, 700).cumsum(1).sin()))
    scale = results[0].abs().max()
    assert (results[0] - results[1]).abs().max() < tolerance * scale


def test_buffers_do_not_let_one_separation_see_another(small_blocks):
    _, separator = both()
    first, second = torch.randn(2, 1, 700, dtype=torch.float64)
    with torch.no_grad():
        alone = separator(first), separator(second)
        again = separator(first), separator(second)
    for one, other in zip(alone, again):
        assert torch.equal(one, other)


@pytest.mark.parametrize("items", [1, 3])
def test_rows_of_any_axis(small_blocks, items):
    plain, x = NormedMLP(5, 6).double(), torch.randn(items, 20, 5, dtype=torch.float64)
    fast = copy.deepcopy(plain)
    swap_in({"mlp": fast})
    assert isinstance(fast, BlockwiseMLP)
    mask = torch.rand(items, 20) < 0.7
    for own in (None, mask):
        with torch.no_grad():
            torch.testing.assert_close(fast(x, own), plain(x, own), atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        assert len(row_blocks(x, dim=1)) == 3
        kept = torch.zeros(20, 2)
        result = by_rows(lambda rows: rows[:, :2].float(), x[0], make=lambda block, count: kept)
    assert result.data_ptr() == kept.data_ptr() and torch.equal(kept, x[0, :, :2].float())


@pytest.mark.parametrize("options", [{}, {"execution": "masked"}, {"pruning": "soft"}])
def test_attention_never_sees_more_than_a_block(small_blocks, monkeypatch, options):
    """Of all chunks at once, an hour's scores would fill the memory."""
    _, separator = both(halting_bias=-9.0, **options)
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda query, *rest: seen.append(len(query)) or attend(query, *rest))
    with torch.no_grad():
        separator(torch.randn(2, 700, dtype=torch.float64))
    assert max(seen) == 3 and len(seen) > 20


def operations(result):
    """Names of all operations of the graph that a result comes from."""
    seen, names, ahead = set(), set(), [result.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            ahead += [following for following, _ in node.next_functions]
    return names


@pytest.mark.parametrize("execution", ["packed", "masked"])
@pytest.mark.parametrize("number", [0, 1])
def test_no_gradient_passes_through_a_view_that_was_written_to(execution, number):
    """Autograd would copy the whole gradient twice for each, a tenth of a training step."""
    separator = both(dtype=torch.float32, execution=execution)[number]
    names = operations(separator(torch.randn(2, 1500)))
    assert "IndexSelectBackward0" in names or execution == "masked"
    assert not {name for name in names if "CopySlices" in name}
