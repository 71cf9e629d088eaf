"""Auditory working memory: a few slots that all chunks read and write (paper, Sec. 2.2)."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_options


class WorkingMemory(nn.Module):
    """Puts the memory slots, in their first state, before the tokens.

    Tokens and slots get one more channel, the tag: 0 for tokens, 1 for slots. Slot j begins as
    row j of an identity matrix. These values are constant; the mask network's first linear map
    turns them into what is learned.

    Arguments
    ---------
    num_slots : int
        M, from 0 to `dim`.
    dim : int
        Channels N.

    Example
    -------
    >>> memory = WorkingMemory(num_slots=2, dim=3)
    >>> memory(torch.zeros(1, 1, 3)).squeeze(0).int().tolist()
    [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    """

    def __init__(self, num_slots, dim):
        super().__init__()
        check_options(dim=dim, num_slots=num_slots)
        if num_slots > dim:
            raise ValueError(
                f"num_slots is {num_slots}: it must be between 0 and the width of the features, "
                f"{dim}, since each slot starts as a channel of its own"
            )
        self.num_slots, self.dim = num_slots, dim
        slots = F.pad(torch.eye(num_slots, dim), (0, 1), value=1.0)
        self.register_buffer("slots", slots, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tag tokens [B, L, N] and put the slots before them: [B, M + L, N + 1]."""
        slots = self.slots.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return torch.cat([slots, F.pad(tokens, (0, 1))], dim=1)


def merge_memory(
    chunk_memory: torch.Tensor, chunk_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Merge what the chunks of each item wrote, [B, S, M, N], into its slots, [B, M, N].

    This is the mean over the chunks that count: those of the mask [B, S], bool, or all without it.
    An item without any gets zeros.

    Example
    -------
    >>> written = torch.tensor([1.0, 3.0, 100.0]).view(1, 3, 1, 1)
    >>> merge_memory(written, torch.tensor([[True, True, False]])).item()
    2.0
    """
    if chunk_mask is None:
        return chunk_memory.mean(dim=1)
    written = chunk_memory.masked_fill(~chunk_mask[:, :, None, None], 0).sum(dim=1)
    return written / chunk_mask.sum(dim=1).clamp(min=1)[:, None, None]
