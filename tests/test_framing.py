import pytest
import torch

from papez_lobes.framing import DenseFraming, join, num_chunks, split


@pytest.mark.parametrize("chunk_tokens", [2, 6, 10])
@pytest.mark.parametrize("authors", [False, True])
def test_join_inverts_split_for_every_length(chunk_tokens, authors):
    for length in range(1, 3 * chunk_tokens + 1):
        x = torch.randn(2, length, 3)
        chunks = num_chunks(length, chunk_tokens, authors)
        halves = split(x, chunk_tokens, chunks)
        assert torch.equal(join(torch.cat(halves, dim=2), length), x)


@pytest.mark.parametrize("chunk_tokens", [2, 6, 10])
def test_chunks_are_those_of_the_authors_padding(chunk_tokens):
    hop = chunk_tokens // 2
    for length in range(1, 3 * chunk_tokens + 1):
        x = torch.arange(1.0, length + 1).view(1, length, 1)
        gap = chunk_tokens - (hop + length % chunk_tokens) % chunk_tokens
        padded = torch.cat([torch.zeros(hop), x.flatten(), torch.zeros(gap + hop)])
        expected = padded.unfold(0, chunk_tokens, hop)
        assert len(expected) == num_chunks(length, chunk_tokens, authors=True)
        got = torch.cat(split(x, chunk_tokens, len(expected)), dim=2)
        assert torch.equal(got.view(len(expected), chunk_tokens), expected)
        # ours are the same without the empty ones
        filled = expected[expected.ne(0).any(dim=1)]
        ours = torch.cat(split(x, chunk_tokens, num_chunks(length, chunk_tokens)), dim=2)
        assert torch.equal(ours.view(-1, chunk_tokens), filled)


def test_masks_follow_the_tokens_that_are_alive():
    alive = torch.tensor([[True, False, True, False, False, False, False, True]])
    framing = DenseFraming.of_tokens(alive, 4)
    assert framing.key_mask.int().squeeze(0).tolist() == [
        [0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0],
    ]
    assert framing.chunk_mask.all()
    alive[0, 7] = False
    framing = DenseFraming.of_tokens(alive, 4)
    assert framing.chunk_mask.tolist() == [[True, True, True, False, False]]
    mask = framing._attention_mask(num_slots=2).view(5, 6)
    assert mask[1].tolist() == [True, True, True, False, True, False]
    assert mask[3].all()  # does not count, so it is left with keys and stays a number
