"""Chunks of tokens: split, gathered, scattered and joined."""

import pytest
import torch

from papez_lobes.authors_padding import AuthorsFraming, authors_count
from papez_lobes.framing import DenseFraming, MaskedFraming, OverlappingChunks
from papez_lobes.halting import HaltingState
from papez_lobes.packing import PackedFraming

FRAMINGS = [DenseFraming, MaskedFraming, PackedFraming, AuthorsFraming]


@pytest.mark.parametrize("size", [2, 6, 10])
@pytest.mark.parametrize("authors", [False, True])
def test_join_inverts_split_for_every_length(size, authors):
    chunks = OverlappingChunks(size)
    for length in range(1, 3 * size + 1):
        x = torch.randn(2, length, 3)
        count = authors_count(length, size) if authors else chunks.count(length)
        parts = chunks.split(x, count)
        assert torch.equal(chunks.join(torch.cat(parts, dim=2), length), x)


@pytest.mark.parametrize("size", [2, 6, 10])
def test_chunks_are_those_of_the_authors_padding(size):
    hop, chunks = size // 2, OverlappingChunks(size)
    for length in range(1, 3 * size + 1):
        x = torch.arange(1.0, length + 1).view(1, length, 1)
        gap = size - (hop + length % size) % size
        padded = torch.cat([torch.zeros(hop), x.flatten(), torch.zeros(gap + hop)])
        expected = padded.unfold(0, size, hop)
        assert len(expected) == authors_count(length, size)
        got = torch.cat(chunks.split(x, len(expected)), dim=2)
        assert torch.equal(got.view(len(expected), size), expected)
        # ours are the same without the empty ones
        filled = expected[expected.ne(0).any(dim=1)]
        assert torch.equal(torch.cat(chunks.split(x), dim=2).view(-1, size), filled)


def test_masks_follow_the_tokens_that_run():
    running = torch.tensor([[True, False, True, False, False, False, False, True]])
    framing = MaskedFraming(running, OverlappingChunks(4), num_slots=2)
    assert framing.chunk_mask.all()
    assert framing.key_mask.view(5, 6)[:, 2:].int().tolist() == [
        [0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0],
    ]
    state = HaltingState(torch.zeros(1, 8), running & (torch.arange(8) < 7))
    framing, _, _ = framing.prune(torch.zeros(1, 8, 3), state)
    assert framing.chunk_mask.tolist() == [[True, True, True, False, False]]
    mask = framing.key_mask.view(5, 6)
    assert mask[1].tolist() == [True, True, True, False, True, False]
    assert mask[3].all()  # does not count, so it is left with keys and stays a number


@pytest.mark.parametrize("kind", FRAMINGS)
@pytest.mark.parametrize("slots", [0, 2])
def test_what_is_gathered_and_scattered_comes_back(kind, slots):
    """Tokens as they were, and as memory the mean of equal copies."""
    running = torch.arange(21) < torch.tensor([[21], [9], [1]])
    tokens, memory = torch.randn(3, 21, 5), torch.randn(3, slots, 5)
    framing = kind(running, OverlappingChunks(8), slots)
    rows = framing.select(tokens)
    groups = framing.gather(framing.concatenate(rows, memory), torch.zeros(slots + 8, 5))
    got, written = framing.scatter([chunks for chunks, _ in groups])
    torch.testing.assert_close(written, memory)
    if kind is AuthorsFraming:  # which reads padding as zeros
        rows = rows * running.unsqueeze(-1)
    torch.testing.assert_close(got, rows)
    total = framing.add_to(torch.zeros(63, 5), got).view(3, 21, 5)
    assert torch.equal(total[running], tokens[running])


@pytest.mark.parametrize("kind", [DenseFraming, AuthorsFraming])
def test_soft_pruning_lets_no_token_go(kind):
    framing = kind(torch.ones(1, 9, dtype=torch.bool), OverlappingChunks(4), 1)
    tokens, state = torch.randn(1, 9, 3), HaltingState(torch.zeros(1, 9), torch.rand(1, 9) > 0.5)
    same = framing.prune(tokens, state)
    assert same == (framing, tokens, state)


def test_packed_tokens_leave_with_their_state():
    running = torch.tensor([[True, True, True], [True, False, False]])
    framing = PackedFraming(running, OverlappingChunks(4), 1)
    tokens, stays = torch.randn(4, 3), torch.tensor([False, True, False, True])
    state = HaltingState(torch.arange(4.0), stays)
    framing, rows, state = framing.prune(tokens, state)
    assert framing.token_index.tolist() == [1, 3] and torch.equal(rows, tokens[stays])
    assert state.cumulative.tolist() == [1, 3] and state.running.all()
    assert framing.add_to(torch.zeros(6), torch.ones(2)).tolist() == [0, 1, 0, 1, 0, 0]
