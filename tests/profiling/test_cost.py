"""Multiply-accumulates and parameters that are counted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.profiling.cost import count_macs, count_parameters


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_count_as_their_closed_forms(bidirectional):
    x = torch.randn(2, 7, 5)
    directions = 1 + bidirectional
    lstm = nn.LSTM(5, 3, num_layers=2, batch_first=True, bidirectional=bidirectional)
    per_row = directions * 4 * 3 * ((5 + 3) + (3 * directions + 3))
    assert count_macs(lambda: lstm(x)) == 2 * 7 * per_row
    convolution = nn.Conv1d(5, 6, 3)
    assert count_macs(lambda: convolution(x.transpose(1, 2))) == 2 * 5 * (5 * 3 * 6)
    query = torch.randn(2, 4, 9, 8)
    attention = lambda: F.scaled_dot_product_attention(query, query, query)  # noqa: E731
    assert count_macs(attention) == 2 * 4 * 9 * 9 * 8 * 2


def test_a_separation_costs_its_recurrence_and_the_layers_around_it(tiny):
    separator, _ = tiny(execution="masked")
    mixture = torch.randn(1, 2000).double()
    _, trace = separator(mixture, return_trace=True)
    tokens, dim, kernel, slots, speakers = trace.depth.shape[1], 16, 8, 3, 2
    around = tokens * kernel * dim + tokens * dim * dim  # encoder
    around += (tokens + slots) * ((dim + 1) * dim + dim * dim)  # embedding
    around += (slots + 6) * dim * 3 * dim  # the position code, once
    wide = dim * speakers
    around += tokens * (dim * wide + wide * wide)  # head
    around += speakers * tokens * (dim * dim + dim * kernel)  # decoder
    chunks, ffn_dim = -(-tokens // 3) + 1, 32
    step = (tokens + slots) * (4 * dim * dim + 2 * dim * ffn_dim)
    step += chunks * 2 * dim * (slots + 6) ** 2
    steps = len(trace.tokens_per_step)
    assert count_macs(lambda: separator(mixture)) == around + steps * step


def test_a_parameter_that_is_shared_counts_once():
    linear = nn.Linear(3, 4)
    assert count_parameters({"encoder": linear, "masknet": nn.Sequential(linear)}) == 16
