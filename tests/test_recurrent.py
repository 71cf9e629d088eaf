"""The recurrence: each execution equals the plain one, and depths are what was asked for."""

from functools import cache

import pytest
import torch

from papez_lobes.block import RecurrentBlock
from papez_lobes.halting import Halting
from papez_lobes.lengths import to_mask
from papez_lobes.profiling.cost import count_macs
from papez_lobes.recurrent import RecurrentTransformer, Trace
from tests.oracles import plain_papez

EXECUTIONS = ["soft", "masked", "packed"]  # the latter two of `hard`


def make(execution="packed", slots=3, bias=0.0, close_remainder=True, max_depth=None):
    torch.manual_seed(0)
    block = RecurrentBlock(12, 3, 20, num_steps=6, num_slots=slots, chunk_tokens=8)
    for name, parameter in block.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.3)
    halting = Halting(0.9, bias, close_remainder)
    pruning = {"soft": ("soft", "auto")}.get(execution, ("hard", execution))
    return RecurrentTransformer(block, halting, *pruning, max_depth).double().eval()


def inputs(batch, length, slots, seed=1):
    torch.manual_seed(seed)
    tokens = torch.randn(batch, length, 12, dtype=torch.float64)
    return tokens, torch.randn(batch, slots, 12, dtype=torch.float64)


@cache
def recurred(slots, length, close_remainder, hard):
    """The plain recurrence of each item, which two executions share."""
    loop = make("packed" if hard else "soft", slots, -1.0, close_remainder)
    return [plain_papez.recur(loop, *item, hard) for item in zip(*inputs(2, length, slots))]


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 17])
@pytest.mark.parametrize("close_remainder", [True, False])
def test_it_equals_the_plain_recurrence(execution, slots, length, close_remainder):
    loop = make(execution, slots, bias=-1.0, close_remainder=close_remainder)
    tokens, memory = inputs(2, length, slots)
    got, trace = loop(tokens, memory)
    plain = recurred(slots, length, close_remainder, execution != "soft")
    for item, (expected, depth) in enumerate(plain):
        assert torch.equal(trace.depth[item], depth)
        torch.testing.assert_close(got[item], expected, atol=1e-9, rtol=1e-9)


def test_hard_and_soft_differ_once_tokens_halt():
    tokens, memory = inputs(1, 20, 3)
    (hard, trace), (soft, _) = (make(e, bias=-1.0)(tokens, memory) for e in ("packed", "soft"))
    assert 1 < trace.mean_depth < 6
    assert not torch.allclose(hard, soft, atol=1e-3)


def test_hard_and_soft_agree_while_all_tokens_run():
    tokens, memory = inputs(1, 20, 3)
    (hard, trace), (soft, _) = (make(e, bias=-40.0)(tokens, memory) for e in ("packed", "soft"))
    assert trace.depth.eq(6).all()
    torch.testing.assert_close(hard, soft, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("own", [1, 4, 7, 16])
def test_an_item_is_the_same_alone_and_in_a_batch(execution, own):
    loop = make(execution, bias=-1.0)
    tokens, memory = inputs(3, 16, 3)
    got, trace = loop(tokens, memory, to_mask(torch.tensor([16, own, 2]), 16))
    alone, alone_trace = loop(tokens[1:2, :own], memory[1:2])
    torch.testing.assert_close(got[1, :own], alone[0], atol=1e-10, rtol=1e-10)
    assert torch.equal(trace.depth[1, :own], alone_trace.depth[0])
    assert trace.depth[1, own:].eq(0).all() and got[1, own:].eq(0).all()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_all_halted_at_once_ends_the_loop(execution):
    tokens, memory = inputs(2, 9, 3)
    loop = make(execution, bias=40.0)
    output, trace = loop(tokens, memory)
    assert trace.tokens_per_step.tolist() == [[9, 9]]
    for item in range(2):
        expected, _ = plain_papez.recur(loop, tokens[item], memory[item], hard=True)
        torch.testing.assert_close(output[item], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("execution", ["masked", "packed"])
def test_one_chunk_may_run_alone(execution):
    tokens, memory = inputs(1, 40, 3)
    tokens[..., -1] = 40.0
    tokens[0, 17, -1] = -40.0
    loop = make(execution)
    output, trace = loop(tokens, memory)
    expected, depth = plain_papez.recur(loop, tokens[0], memory[0], hard=True)
    assert trace.tokens_per_step[1].item() == 1
    assert torch.equal(trace.depth[0], depth)
    torch.testing.assert_close(output[0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("max_depth", [1, 3, 6])
def test_max_depth_limits_the_loop_and_closes_the_weights_there(max_depth):
    loop = make(bias=-3.0, max_depth=max_depth)
    tokens, memory = inputs(1, 11, 3)
    output, trace = loop(tokens, memory)
    assert trace.depth.max() == max_depth
    expected, _ = plain_papez.recur(loop, tokens[0], memory[0], hard=True)
    torch.testing.assert_close(output[0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_parameter_gets_a_gradient_when_all_steps_run(execution):
    loop = make(execution, bias=-2.0)
    tokens, memory = inputs(2, 30, 3)
    loop(tokens, memory)[0].square().sum().backward()
    for name, parameter in loop.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        each = parameter.grad if "norm" in name else parameter.grad.unsqueeze(0)  # [R, N]
        assert (each.flatten(1).abs().sum(1) > 0).all(), name


def test_the_trace_counts_steps_tokens_and_chunks():
    depth = torch.tensor([[2, 1, 3], [1, 0, 0]])
    trace = Trace(depth, depth > 0, depth.float())
    assert trace.tokens_per_step.tolist() == [[3, 1], [2, 0], [1, 0]]
    assert trace.tokens_per_step.sum() == depth.sum()
    assert trace.mean_depth == 7 / 4
    assert trace.ponder.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("max_depth", [0, 7])
def test_a_depth_that_does_not_exist_is_refused(max_depth):
    with pytest.raises(ValueError, match=f"max_depth is {max_depth}"):
        make(max_depth=max_depth)


def test_hard_pruning_refuses_to_attend_padding():
    block = RecurrentBlock(12, 3, 20, 6, 3, 8, attend_padding=True)
    with pytest.raises(ValueError, match="attend_padding"):
        RecurrentTransformer(block, Halting(), "hard")
    RecurrentTransformer(block, Halting(), "soft")


def both(bias, batch=3, length=40, counts=(40, 23, 1), dtype=torch.float64):
    """Results of the masked and the packed execution on the same batch."""
    tokens, memory = inputs(batch, length, 3)
    mask = None if counts is None else to_mask(torch.tensor(counts), length)
    loops = [make(execution, bias=bias).to(dtype) for execution in ("masked", "packed")]
    return [loop(tokens.to(dtype), memory.to(dtype), mask) for loop in loops]


@pytest.mark.parametrize("bias", [-40.0, -2.0, -1.0, 0.0, 40.0])
@pytest.mark.parametrize("counts", [None, (40, 23, 1)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_packed_equals_masked(bias, counts, dtype, tolerance):
    (masked, masked_trace), (packed, packed_trace) = both(bias, counts=counts, dtype=dtype)
    assert torch.equal(masked_trace.depth, packed_trace.depth)
    torch.testing.assert_close(packed, masked, atol=tolerance, rtol=tolerance)


def test_their_gradients_are_equal_too():
    gradients = []
    for execution in ("masked", "packed"):
        loop = make(execution, bias=-1.0)
        tokens, memory = inputs(2, 30, 3)
        mask = to_mask(torch.tensor([30, 11]), 30)
        loop(tokens.requires_grad_(), memory, mask)[0].square().sum().backward()
        gradients.append([tokens.grad, *(p.grad for p in loop.parameters())])
    for masked, packed in zip(*gradients):
        torch.testing.assert_close(packed, masked, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("worth", [0, 4, 10**9])
def test_how_chunks_are_grouped_changes_nothing(worth, monkeypatch):
    monkeypatch.setattr("papez_lobes.packing.ROWS_WORTH_A_GROUP", worth)
    (masked, _), (packed, _) = both(-1.0)
    torch.testing.assert_close(packed, masked, atol=1e-9, rtol=1e-9)


def test_work_is_what_the_tokens_depths_ask_for():
    """Rows are exact; chunks are padded to the longest of their group, so pairs are a bound."""
    tokens, memory = inputs(1, 160, 3)
    steps = make()(tokens, memory)[1].tokens_per_step.squeeze(1).tolist()
    masked, packed = (
        count_macs(lambda: make(execution)(tokens, memory)) - (3 + 8) * 12 * 3 * 12  # noqa: B023
        for execution in ("masked", "packed")  # less the position code, which is projected once
    )
    per_row = 4 * 12 * 12 + 2 * 12 * 20
    rows = sum(steps) + 3 * len(steps)
    least = rows * per_row
    most = least + sum(2 * 12 * 2 * tokens / 4 * (3 + 8) ** 2 for tokens in steps) * 2
    assert least < packed < most
    assert packed < 0.7 * masked
    dense = 163 * per_row + 2 * 12 * 41 * (3 + 8) ** 2
    assert masked == dense * len(steps)


def test_auto_is_packed_on_a_cpu():
    tokens, memory = inputs(1, 40, 3)
    auto, packed, masked = (
        count_macs(lambda: make(execution, bias=-1.0)(tokens, memory))  # noqa: B023
        for execution in ("auto", "packed", "masked")
    )
    assert auto == packed < masked


def test_an_execution_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="execution is 'packd'"):
        make("packd")


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_expected_depth_is_the_depth_where_probabilities_are_zero_or_one(execution):
    tokens, memory = inputs(2, 20, 3)
    loop = make(execution, bias=-40.0, max_depth=3)
    trace = loop(tokens, memory, to_mask(torch.tensor([20, 6]), 20))[1]
    torch.testing.assert_close(trace.expected_depth, 3 * trace.valid.double())
    assert (make(execution, bias=-1.0)(tokens, memory)[1].expected_depth <= 6 + 1e-9).all()


def test_a_random_depth_is_drawn_in_training_alone():
    loop = make(bias=-40.0, max_depth=5)
    loop.min_train_depth = 2
    tokens, memory = inputs(1, 4, 3)
    torch.manual_seed(0)
    drawn = {int(loop.train()(tokens, memory)[1].depth.max()) for _ in range(20)}
    assert drawn == {2, 3, 4, 5}
    assert {int(loop.eval()(tokens, memory)[1].depth.max()) for _ in range(5)} == {5}


@pytest.mark.parametrize("min_train_depth", [0, 4])
def test_a_random_depth_that_does_not_exist_is_refused(min_train_depth):
    block = RecurrentBlock(12, 3, 20, 6, 3, 8)
    with pytest.raises(ValueError, match=f"min_train_depth is {min_train_depth}"):
        RecurrentTransformer(block, Halting(), max_depth=3, min_train_depth=min_train_depth)
