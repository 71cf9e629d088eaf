"""What is computed in blocks of rows and of chunks is what is computed at once."""

import pytest
import torch

from papez_lobes import rows
from papez_lobes.config.separator_files import build_modules, separator_file
from papez_lobes.norms import NormedMLP
from papez_lobes.precision import lower_precision
from papez_lobes.rows import by_rows, row_blocks
from papez_lobes.separator import separate

TINY = {"N_encoder_out": 16, "num_heads": 2, "ffn_dim": 16, "num_steps": 5, "chunk_tokens": 8,
        "kernel_size": 8, "kernel_stride": 4, "halting_bias": -0.5}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(rows, "ROWS_AT_A_TIME", 7)
    monkeypatch.setattr(rows, "NUMBERS_AT_A_TIME", 3 * 18 * 48)


def build(**knobs):
    torch.manual_seed(0)
    return torch.nn.ModuleDict(build_modules(separator_file("papez"), {**TINY, **knobs})).eval()


@pytest.mark.parametrize("knobs", [{}, {"num_slots": 0}, {"pruning": "soft"},
                                   {"execution": "masked"}, {"halting_bias": -9.0}])
@pytest.mark.parametrize("lengths", [None, [1.0, 0.6, 0.02]])
def test_a_separation_in_blocks_is_the_one_at_once(small_blocks, knobs, lengths):
    modules, mixture = build(**knobs).double(), torch.randn(3, 1500, dtype=torch.float64)
    lengths = None if lengths is None else torch.tensor(lengths, dtype=torch.float64)
    once, trace = separate(modules, mixture, lengths, return_trace=True)
    assert once.requires_grad  # at once, since there are gradients
    with torch.no_grad():
        blocks, others = separate(modules, mixture, lengths, return_trace=True)
    torch.testing.assert_close(blocks, once.detach(), atol=1e-10, rtol=1e-8)
    assert torch.equal(trace.depth, others.depth) and trace.macs == others.macs


@pytest.mark.parametrize("execution", ["packed", "masked"])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.02)])
def test_in_other_precisions_too(monkeypatch, dtype, tolerance, execution):
    results = []
    for size in (7, 10**6):
        monkeypatch.setattr(rows, "ROWS_AT_A_TIME", size)
        monkeypatch.setattr(rows, "NUMBERS_AT_A_TIME", 200 * size)
        modules = build(halting_bias=-9.0, execution=execution)
        lower_precision(modules, dtype)
        with torch.inference_mode():
            results.append(separate(modules, torch.ones(2, 1500).cumsum(1).sin()))
    scale = results[0].abs().max()
    assert (results[0] - results[1]).abs().max() < tolerance * scale


def test_buffers_do_not_let_one_separation_see_another(small_blocks):
    modules = build().double()
    first, second = torch.randn(2, 1, 1500, dtype=torch.float64)
    with torch.no_grad():
        alone = separate(modules, first), separate(modules, second)
        again = separate(modules, first), separate(modules, second)
    for one, other in zip(alone, again):
        assert torch.equal(one, other)


@pytest.mark.parametrize("items", [1, 3])
def test_rows_of_any_axis(small_blocks, items):
    mlp, x = NormedMLP(5, 6).double(), torch.randn(items, 20, 5, dtype=torch.float64)
    mask = torch.rand(items, 20) < 0.7
    for own in (None, mask):
        with torch.no_grad():
            got = mlp(x, own)
        torch.testing.assert_close(got, mlp(x, own).detach(), atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        assert len(row_blocks(x, dim=1)) == 3
        kept = torch.zeros(20, 2)
        result = by_rows(lambda rows: rows[:, :2].float(), x[0], whole=lambda block, count: kept)
    assert result.data_ptr() == kept.data_ptr() and torch.equal(kept, x[0, :, :2].float())


@pytest.mark.parametrize("knobs", [{}, {"execution": "masked"}, {"pruning": "soft"}])
def test_attention_never_sees_more_than_a_block(small_blocks, monkeypatch, knobs):
    """Of all chunks at once, an hour's scores would fill the memory."""
    modules, seen = build(halting_bias=-9.0, **knobs), []
    attention = modules["masknet"].transformer.block.attention
    attend = attention._attend
    monkeypatch.setattr(
        attention, "_attend", lambda x, mask: seen.append(len(x)) or attend(x, mask))
    with torch.no_grad():
        separate(modules, torch.randn(2, 1500))
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
def test_no_gradient_passes_through_a_view_that_was_written_to(execution):
    """Autograd would copy the whole gradient twice for each, a tenth of a training step."""
    estimates = separate(build(execution=execution), torch.randn(2, 1500))
    names = operations(estimates)
    assert "IndexSelectBackward0" in names or execution == "masked"
    assert not {name for name in names if "CopySlices" in name}
