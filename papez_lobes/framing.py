"""Overlapping chunks and their inverse. Pure functions of shapes and masks.

A chunk holds K tokens, the next begins P = K / 2 tokens later, and P zeros stand in front of the
first token, so that each token is in exactly two chunks. In blocks of P tokens, chunk s is
therefore [block s - 1 | block s], which makes both directions a matter of two views.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from papez_lobes.lengths import to_mask


def num_chunks(num_tokens, chunk_tokens, authors=False):
    """How many chunks L tokens take; works on ints and on integer tensors.

    With `authors` the count of the authors' padding, whose last one or two chunks may hold
    nothing but zeros: L + gap + P tokens in hops of P, gap = K - (P + L mod K) mod K.

    Example
    -------
    >>> [num_chunks(n, 4) for n in (1, 2, 3, 4, 5)]
    [2, 2, 3, 3, 4]
    >>> [num_chunks(n, 4, authors=True) for n in (1, 2, 3, 4, 5)]
    [2, 4, 4, 4, 4]
    """
    hop = chunk_tokens // 2
    if not authors:
        return (num_tokens + hop - 1) // hop + 1
    gap = chunk_tokens - (hop + num_tokens % chunk_tokens) % chunk_tokens
    return (num_tokens + gap + hop) // hop


def split(x, chunk_tokens, chunks):
    """Tokens [B, L, D] to their chunks, as two halves: a pair of [B, S, P, D] views.

    Example
    -------
    >>> x = torch.arange(1.0, 6.0).view(1, 5, 1)
    >>> torch.cat(split(x, 4, num_chunks(5, 4)), dim=2).squeeze().int().tolist()
    [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 0], [5, 0, 0, 0]]
    """
    hop = chunk_tokens // 2
    after = chunks * hop - x.shape[1]
    blocks = F.pad(x, (0, 0, hop, after)).view(x.shape[0], chunks + 1, hop, x.shape[2])
    return blocks[:, :-1], blocks[:, 1:]


def join(chunks, num_tokens):
    """The inverse: the mean of each token's two copies.

    Arguments
    ---------
    chunks : torch.Tensor
        [B, S, K, D].
    num_tokens : int
        L.

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
    hop = size // 2
    tokens = (chunks[:, 1:, :hop] + chunks[:, :-1, hop:]) * 0.5
    return tokens.reshape(batch, -1, dim)[:, :num_tokens]


@dataclass
class Framing:
    """One step's view of the tokens as chunks: who is where, and who may be attended.

    Arguments
    ---------
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
    """

    chunk_tokens: int
    chunks: int
    key_mask: torch.Tensor | None = None
    chunk_mask: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None

    @classmethod
    def of_padding(cls, counts, num_tokens, chunk_tokens):
        """The authors' framing: padding is attended, and chunks of nothing but padding count.

        `counts` [B]: valid tokens per item, or None where all L are. An item's chunks are those
        that it would have alone, and what stands beyond its tokens is zeros at every step.
        """
        largest = num_chunks(num_tokens, chunk_tokens, authors=True)
        if counts is None:
            return cls(chunk_tokens, largest)
        own = num_chunks(counts, chunk_tokens, authors=True)
        # the count is not monotonous in L: a shorter item may own more chunks than a longer one
        largest = max(largest, int(own.max()))
        mask = to_mask(own, largest)
        return cls(chunk_tokens, largest, None, mask, to_mask(counts, num_tokens))

    @classmethod
    def of_tokens(cls, alive, chunk_tokens):
        """Our framing: only the tokens where alive [B, L] is True are attended; only chunks that
        hold one of them count."""
        chunks = num_chunks(alive.shape[1], chunk_tokens)
        halves = split(alive.unsqueeze(-1), chunk_tokens, chunks)
        key_mask = torch.cat(halves, dim=2).squeeze(-1)
        return cls(chunk_tokens, chunks, key_mask, key_mask.any(dim=-1))

    def attention_mask(self, num_slots):
        """Mask of keys for attention over [M slots | K tokens]: [B * S, 1, 1, M + K] or None.

        Slots may always be attended. A chunk that does not count is left unmasked: its result is
        not used, and without any key it would not be a number.
        """
        if self.key_mask is None:
            return None
        keys = self.key_mask | ~self.chunk_mask.unsqueeze(-1)
        return F.pad(keys, (num_slots, 0), value=True).flatten(0, 1)[:, None, None]
