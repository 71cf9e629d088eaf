"""Overlapping chunks and their inverse. Pure functions of shapes and masks.

A chunk holds K tokens, the next begins P = K / 2 tokens later, and P zeros stand in front of the
first token, so that each token is in exactly two chunks. In blocks of P tokens, chunk s is
therefore [block s - 1 | block s], which makes both directions a matter of two views.

With one `copies` of each token instead of two, chunks lie side by side: P = K, and chunk s is
block s.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from papez_lobes.lengths import to_mask
from papez_lobes.memory import merge_memory
from papez_lobes.rows import sequence_blocks


def num_chunks(num_tokens, chunk_tokens, authors=False, copies=2):
    """How many chunks L tokens take; works on ints and on integer tensors.

    With `authors` the count of the authors' padding, whose last one or two chunks may hold
    nothing but zeros: L + gap + P tokens in hops of P, gap = K - (P + L mod K) mod K.

    Example
    -------
    >>> [num_chunks(n, 4) for n in (1, 2, 3, 4, 5)]
    [2, 2, 3, 3, 4]
    >>> [num_chunks(n, 4, authors=True) for n in (1, 2, 3, 4, 5)]
    [2, 4, 4, 4, 4]
    >>> [num_chunks(n, 4, copies=1) for n in (1, 4, 5)]
    [1, 1, 2]
    """
    hop = chunk_tokens // copies
    if not authors:
        return (num_tokens + hop - 1) // hop + copies - 1
    gap = chunk_tokens - (hop + num_tokens % chunk_tokens) % chunk_tokens
    return (num_tokens + gap + hop) // hop


def split(x, chunk_tokens, chunks, copies=2):
    """Tokens [B, L, D] to their chunks, in parts of P: a tuple of `copies` [B, S, P, D] views.

    Example
    -------
    >>> x = torch.arange(1.0, 6.0).view(1, 5, 1)
    >>> torch.cat(split(x, 4, num_chunks(5, 4)), dim=2).squeeze().int().tolist()
    [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 0], [5, 0, 0, 0]]
    """
    hop = chunk_tokens // copies
    before, after = chunk_tokens - hop, chunks * hop - x.shape[1]
    blocks = F.pad(x, (0, 0, before, after)).unflatten(1, (chunks + copies - 1, hop))
    return tuple(blocks[:, part:part + chunks] for part in range(copies))


def join(chunks, num_tokens, copies=2):
    """The inverse: the mean of each token's copies.

    Arguments
    ---------
    chunks : torch.Tensor
        [B, S, K, D].
    num_tokens : int
        L.
    copies : int
        Chunks that a token is in: 2, or 1 where they do not overlap.

    Returns
    -------
    torch.Tensor
        [B, L, D].

    Example
    -------
    >>> x = torch.randn(2, 7, 3)
    >>> y = join(torch.cat(split(x, 4, num_chunks(7, 4)), dim=2), 7)
    >>> bool((x == y).all())
    True
    """
    batch, _, size, dim = chunks.shape
    if copies == 1:
        return chunks.flatten(1, 2)[:, :num_tokens]
    hop = size // 2
    tokens = (chunks[:, 1:, :hop] + chunks[:, :-1, hop:]) * 0.5
    return tokens.reshape(batch, -1, dim)[:, :num_tokens]


@dataclass
class DenseFraming:
    """One step's view of all tokens as chunks: who may be attended, and which chunks count.

    A framing has `spread` (projected rows to the sequences that attend) and `merge` (back), and
    says with `pairs` how many query-key pairs are computed. See also
    `papez_lobes.packing.PackedFraming`.

    Arguments
    ---------
    shape : (int, int)
        B and L.
    chunk_tokens : int
        K.
    chunks : int
        S.
    key_mask : torch.Tensor, optional
        [B, S, K], bool: tokens that may be attended. None where all may.
    chunk_mask : torch.Tensor, optional
        [B, S], bool: chunks whose memory counts. None where all do.
    token_mask : torch.Tensor, optional
        [B, L], bool: tokens that are not to be read as zeros. None where none is.
    copies : int
        Chunks that a token is in: 2, or 1 where they do not overlap.
    """

    shape: tuple[int, int]
    chunk_tokens: int
    chunks: int
    key_mask: torch.Tensor | None = None
    chunk_mask: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    copies: int = 2

    @classmethod
    def of_padding(cls, counts, shape, chunk_tokens):
        """The authors' framing: padding is attended, and chunks of nothing but padding count.

        `counts` [B]: valid tokens per item, or None where all L are. An item's chunks are those
        that it would have alone, and what stands beyond its tokens is zeros at every step.
        """
        largest = num_chunks(shape[1], chunk_tokens, authors=True)
        if counts is None:
            return cls(shape, chunk_tokens, largest)
        own = num_chunks(counts, chunk_tokens, authors=True)
        # the count is not monotonous in L: a shorter item may own more chunks than a longer one
        largest = max(largest, int(own.max()))
        mask, token_mask = to_mask(own, largest), to_mask(counts, shape[1])
        return cls(shape, chunk_tokens, largest, None, mask, token_mask)

    @classmethod
    def of_tokens(cls, alive, chunk_tokens, copies=2):
        """Our framing: only the tokens where alive [B, L] is True are attended; only chunks that
        hold one of them count."""
        chunks = num_chunks(alive.shape[1], chunk_tokens, copies=copies)
        parts = split(alive.unsqueeze(-1), chunk_tokens, chunks, copies)
        key_mask = torch.cat(parts, dim=2).squeeze(-1)
        chunk_mask = key_mask.any(dim=-1)
        return cls(tuple(alive.shape), chunk_tokens, chunks, key_mask, chunk_mask, copies=copies)

    def pairs(self, num_slots):
        """Query-key pairs that one step computes."""
        return self.shape[0] * self.chunks * (num_slots + self.chunk_tokens) ** 2

    def spread(self, tokens, memory, positions, project):
        """Rows to the sequences that attend, in blocks (see `papez_lobes.rows`).

        Arguments
        ---------
        tokens, memory : torch.Tensor
            [B, L, N] and [B, M, N].
        positions : torch.Tensor
            [M + K, D]: what each place of a sequence adds.
        project : callable
            Of rows [..., N] to [..., D].

        Yields
        ------
        (torch.Tensor, torch.Tensor or None)
            Sequences [n, M + W, D], and a mask of keys that scaled_dot_product_attention takes.
        """
        slots = memory.shape[1]
        tokens, memory = project(tokens), project(memory)
        if self.token_mask is not None:
            tokens = tokens.masked_fill(~self.token_mask.unsqueeze(-1), 0)
        memory = memory.unsqueeze(1).expand(-1, self.chunks, -1, -1)
        parts = split(tokens, self.chunk_tokens, self.chunks, self.copies)
        sequence = torch.cat([memory, *parts], dim=2).add_(positions)  # [B, S, M + K, D]
        sequence, mask = sequence.flatten(0, 1), self._attention_mask(slots)
        for own in sequence_blocks(sequence, sequence.shape[2]):
            yield sequence[own], None if mask is None else mask[own]

    def merge(self, attended, num_slots):
        """The inverse: attended sequences [n, M + W, N], as they come from `spread`, to tokens
        [B, L, N], the mean of each one's copies, and memory [B, M, N], the mean over all chunks
        that count."""
        attended = torch.cat(list(attended)).unflatten(0, (-1, self.chunks))
        tokens = join(attended[:, :, num_slots:], self.shape[1], self.copies)
        return tokens, merge_memory(attended[:, :, :num_slots], self.chunk_mask)

    def _attention_mask(self, num_slots):
        """[B * S, 1, 1, M + K], or None.

        Slots may always be attended. A chunk that does not count is left unmasked: its result is
        not used, and without any key it would not be a number.
        """
        if self.key_mask is None:
            return None
        keys = self.key_mask | ~self.chunk_mask.unsqueeze(-1)
        return F.pad(keys, (num_slots, 0), value=True).flatten(0, 1)[:, None, None]
