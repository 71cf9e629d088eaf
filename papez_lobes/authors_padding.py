"""The padding of the authors' code, which is attended (`attend_padding: True`).

Their checkpoints were trained with it. It only goes with soft pruning: padding never halts.
"""

import torch

from papez_lobes.framing import DenseFraming, OverlappingChunks
from papez_lobes.lengths import to_mask


def authors_count(num_tokens, chunk_tokens: int):
    """The number of chunks of the authors' padding, of which one or two may hold zeros only.

    L tokens become L + gap + P, in hops of P, with gap = K - (P + L mod K) mod K. L may be a
    tensor.

    Example
    -------
    >>> [authors_count(num_tokens, 4) for num_tokens in (1, 2, 3, 4, 5)]
    [2, 4, 4, 4, 4]
    """
    hop = chunk_tokens // 2
    gap = chunk_tokens - (hop + num_tokens % chunk_tokens) % chunk_tokens
    return (num_tokens + gap + hop) // hop


class AuthorsFraming(DenseFraming):
    """Chunks of all tokens and of the authors' padding: zeros at every step, attended, and
    counted in the mean over the memory.

    An item has as many chunks in a batch as alone. Arguments are those of
    `papez_lobes.framing.DenseFraming`.
    """

    def __init__(self, running: torch.Tensor, chunks: OverlappingChunks, num_slots: int):
        self.shape, self.chunks, self.num_slots = tuple(running.shape), chunks, num_slots
        self.key_mask = self.chunk_mask = self.token_mask = None
        self.num_chunks = authors_count(running.shape[1], chunks.size)
        if not running.all():
            own = authors_count(running.sum(dim=1), chunks.size)
            # The count is not monotonous: a shorter item may have more chunks than a longer one.
            self.num_chunks = max(self.num_chunks, int(own.max()))
            self.chunk_mask = to_mask(own, self.num_chunks)
            self.token_mask = running

    def gather(self, projected, positions):
        """Like `DenseFraming.gather`, with zeros where an item is padded."""
        if self.token_mask is not None:
            kept = torch.nn.functional.pad(self.token_mask, (self.num_slots, 0), value=True)
            projected = projected.masked_fill(~kept.unsqueeze(-1), 0)
        return super().gather(projected, positions)
