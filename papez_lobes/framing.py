"""Chunks of all tokens: soft pruning, and hard pruning by masks.

A framing is one step's view of the tokens as chunks. All framings have one interface:
`DenseFraming` and `MaskedFraming` here, `papez_lobes.packing.PackedFraming`, and the padding of
the authors in `papez_lobes.authors_padding`.
"""

import torch
from torch.nn import functional as F

from papez_lobes.memory import merge_memory


class OverlappingChunks:
    """How a sequence is cut into chunks of K tokens.

    The next chunk begins P = K / 2 tokens later, and P zeros stand in front of the first token,
    so that each token is in exactly two chunks. In blocks of P tokens, chunk s is therefore
    [block s - 1 | block s].

    Arguments
    ---------
    size : int
        K, even.

    Example
    -------
    >>> chunks, x = OverlappingChunks(4), torch.arange(1.0, 6.0).view(1, 5, 1)
    >>> torch.cat(chunks.split(x), dim=2).squeeze().int().tolist()
    [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 0], [5, 0, 0, 0]]
    """

    copies = 2  # chunks that each token is in; an ablation has 1

    def __init__(self, size: int):
        self.size = size
        self.hop = size // self.copies

    def count(self, num_tokens: int) -> int:
        """The number of chunks S that L tokens take.

        Example
        -------
        >>> [OverlappingChunks(4).count(num_tokens) for num_tokens in (1, 2, 3, 4, 5)]
        [2, 2, 3, 3, 4]
        """
        return -(-num_tokens // self.hop) + self.copies - 1

    def split(self, x: torch.Tensor, count: int | None = None) -> tuple[torch.Tensor, ...]:
        """Cut tokens [B, L, D] into S chunks, `count(L)` (default) or more.

        Returns the parts of the chunks, from front to back: one view [B, S, P, D] per copy.
        """
        count = self.count(x.shape[1]) if count is None else count
        before = self.size - self.hop
        after = count * self.hop - x.shape[1]
        blocks = F.pad(x, (0, 0, before, after)).unflatten(1, (-1, self.hop))
        return tuple(blocks[:, part:part + count] for part in range(self.copies))

    def join(self, chunks: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """The inverse of `split`: chunks [B, S, K, D] to tokens [B, L, D], by the mean of copies.

        Example
        -------
        >>> chunks, x = OverlappingChunks(4), torch.randn(2, 7, 3)
        >>> y = chunks.join(torch.cat(chunks.split(x), dim=2), 7)
        >>> bool((x == y).all())
        True
        """
        tokens = (chunks[:, 1:, :self.hop] + chunks[:, :-1, self.hop:]) * 0.5
        return tokens.flatten(1, 2)[:, :num_tokens]


class DenseFraming:
    """Chunks of all tokens, the same at every step: soft pruning.

    Tokens that have halted are still updated and still attended. Padding is not: it is no key,
    and chunks without a valid token do not count in the mean over the memory.

    Arguments
    ---------
    attendable : torch.Tensor
        [B, L], bool: tokens that may be attended: the valid ones, or those that still run.
    chunks : OverlappingChunks
        How tokens are cut into chunks.
    num_slots : int
        Memory slots M.

    Example
    -------
    >>> attendable = torch.tensor([[True, True, False]])
    >>> framing = DenseFraming(attendable, OverlappingChunks(2), num_slots=1)
    >>> [(chunks, mask)] = framing.gather(torch.tensor([[[9.0], [1.0], [2.0], [3.0]]]), 0)
    >>> chunks.squeeze(2).tolist()  # one slot and two tokens each
    [[9.0, 0.0, 1.0], [9.0, 1.0, 2.0], [9.0, 2.0, 3.0], [9.0, 3.0, 0.0]]
    >>> mask.int().squeeze().tolist()  # the last chunk does not count, so that it needs no mask
    [[1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]
    """

    def __init__(self, attendable: torch.Tensor, chunks: OverlappingChunks, num_slots: int):
        self.shape, self.chunks, self.num_slots = tuple(attendable.shape), chunks, num_slots
        self.num_chunks = chunks.count(attendable.shape[1])
        parts = chunks.split(attendable.unsqueeze(-1))
        keys = torch.cat(parts, dim=2).squeeze(-1)  # [B, S, K]
        self.chunk_mask = keys.any(dim=-1)  # [B, S]: chunks whose memory counts
        # The result of a chunk that does not count is not used. It keeps all keys: attention
        # without any key is not a number.
        keys = keys | ~self.chunk_mask.unsqueeze(-1)
        keys = F.pad(keys, (num_slots, 0), value=True)  # slots may always be attended
        self.key_mask = keys.flatten(0, 1)[:, None, None]  # [B * S, 1, 1, M + K]

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the tokens that take part, of all tokens' [B, L, ...]."""
        return x

    def concatenate(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Memory and tokens as one tensor, [B, M + L, N], to be projected at once."""
        return torch.cat([memory, tokens], dim=1)

    def gather(self, projected: torch.Tensor, positions: torch.Tensor) -> list:
        """Bring memory and tokens into chunks.

        Arguments
        ---------
        projected : torch.Tensor
            What `concatenate` gave, after a linear map to D channels.
        positions : torch.Tensor
            [M + K, D]: what each place of a chunk adds.

        Returns
        -------
        list of (torch.Tensor, torch.Tensor or None)
            Chunks [n, M + K, D] (packed: of at most K tokens), which attend within themselves,
            and the mask of their keys [n, 1, 1, M + K].
        """
        memory, tokens = projected[:, :self.num_slots], projected[:, self.num_slots:]
        memory = memory.unsqueeze(1).expand(-1, self.num_chunks, -1, -1)
        parts = self.chunks.split(tokens, self.num_chunks)
        chunks = torch.cat([memory, *parts], dim=2).add_(positions)  # [B, S, M + K, D]
        return [(chunks.flatten(0, 1), self.key_mask)]

    def scatter(self, attended: list) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring attended chunks back to memory and tokens.

        Arguments
        ---------
        attended : list of torch.Tensor
            [n, M + K, N] for each of the chunks that `gather` gave.

        Returns
        -------
        tokens : torch.Tensor
            [B, L, N]: the mean of each token's copies.
        memory : torch.Tensor
            [B, M, N]: the mean over all chunks that count.
        """
        [chunks] = attended
        chunks = chunks.unflatten(0, (-1, self.num_chunks))
        tokens = self.chunks.join(chunks[:, :, self.num_slots:], self.shape[1])
        return tokens, merge_memory(chunks[:, :, :self.num_slots], self.chunk_mask)

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Add values x of the tokens that take part to a total [B * L, ...] of all tokens. Use
        the result: `total` itself may change."""
        return total + x.flatten(0, 1)

    def prune(self, tokens: torch.Tensor, state) -> tuple:
        """The next step's framing, tokens and halting state: all tokens stay."""
        return self, tokens, state


class MaskedFraming(DenseFraming):
    """Chunks of all tokens, where those that have halted are masked: hard pruning on tensors
    whose shapes do not change.

    What is computed for a halted token is not used.
    """

    def prune(self, tokens: torch.Tensor, state) -> tuple:
        """The next step's framing, tokens and halting state: halted tokens are no keys."""
        return type(self)(state.running, self.chunks, self.num_slots), tokens, state
