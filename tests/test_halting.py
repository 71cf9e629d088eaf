"""Token halting: weights, remainders, bias and thresholds."""

import pytest
import torch

from papez_lobes.halting import Halting


def run(halting, probabilities):
    """Weights and running flags of one token whose step r has probability p_r."""
    state = halting.start(torch.ones(1, 1, dtype=torch.bool), torch.float64)
    weights, running = [], []
    for step, p in enumerate(probabilities):
        logits = torch.logit(torch.tensor([[p]], dtype=torch.float64)) - halting.bias
        weight, state = halting(logits, state, step == len(probabilities) - 1)
        weights.append(round(weight.item(), 9))
        running.append(state.running.item())
    return weights, running


def test_weights_equal_those_computed_by_hand():
    weights, running = run(Halting(0.9), [0.3, 0.4, 0.5, 0.9])
    assert weights == [0.3, 0.4, 0.3, 0.0] and running == [True, True, False, False]
    assert run(Halting(0.9), [0.95]) == ([1.0], [False])
    # exactly at the threshold it goes on: it halts above it
    assert run(Halting(0.75), [0.5, 0.25, 0.2])[1] == [True, True, False]


def test_the_remainder_is_closed_or_lost():
    assert run(Halting(0.9, close_remainder=True), [0.1, 0.1, 0.1])[0] == [0.1, 0.1, 0.8]
    weights, running = run(Halting(0.9, close_remainder=False), [0.1, 0.1, 0.1])
    assert weights == [0.1, 0.1, 0.1] and running[-1]


@pytest.mark.parametrize("seed", range(5))
def test_weights_sum_to_one_when_closed(seed):
    torch.manual_seed(seed)
    halting = Halting(0.9, bias=-1.0)
    state, total = halting.start(torch.rand(3, 50) > 0.2), torch.zeros(3, 50)
    valid = state.running
    for step in range(6):
        weights, state = halting(torch.randn(3, 50), state, step == 5)
        total += weights
    torch.testing.assert_close(total, valid.float())


def test_bias_moves_the_logit_and_padding_never_runs():
    state = Halting().start(torch.tensor([[True, False]]))
    weights, state = Halting(0.9, bias=-2.0)(torch.tensor([[2.0, 9.0]]), state, False)
    assert weights.tolist() == [[0.5, 0.0]]
    assert state.running.tolist() == [[True, False]]


def test_half_precision_logits_are_added_up_in_single():
    halting = Halting(1.0)
    state = halting.start(torch.ones(1, 1, dtype=torch.bool), torch.bfloat16)
    weights, state = halting(torch.tensor([[-5.0]], dtype=torch.bfloat16), state, False)
    assert weights.dtype == state.cumulative.dtype == torch.float32


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="halting_threshold is"):
        Halting(threshold)
