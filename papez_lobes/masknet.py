"""The mask network: features [B, N, L] -> masks [C, B, N, L]."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_whole
from papez_lobes.lengths import to_counts, to_mask
from papez_lobes.norms import NormedMLP


class MaskNet(nn.Module):
    """Embed tokens and memory, recur, and estimate one mask a speaker.

    Arguments
    ---------
    dim : int
        Channels N of the tokens.
    num_spks : int
        Speakers C >= 1.
    memory : papez_lobes.memory.WorkingMemory
        The slots.
    transformer : papez_lobes.recurrent.RecurrentTransformer
        The recurrence, of the same N and number of slots.
    embed, head : torch.nn.Module, optional
        What makes tokens of features and tags, and masks of tokens: x [B, L, .], mask [B, L] ->
        [B, L, .]. None: the authors', for features and masks of N channels.

    Example
    -------
    >>> from papez_lobes.block import RecurrentBlock
    >>> from papez_lobes.halting import Halting
    >>> from papez_lobes.memory import WorkingMemory
    >>> from papez_lobes.recurrent import RecurrentTransformer
    >>> block = RecurrentBlock(8, 2, 16, num_steps=6, num_slots=2, chunk_tokens=4)
    >>> masknet = MaskNet(8, 2, WorkingMemory(2, 8), RecurrentTransformer(block, Halting()))
    >>> masks, trace = masknet(torch.randn(3, 8, 20), return_trace=True)
    >>> masks.shape, trace.depth.shape
    (torch.Size([2, 3, 8, 20]), torch.Size([3, 20]))
    """

    def __init__(self, dim, num_spks, memory, transformer, embed=None, head=None):
        super().__init__()
        check_whole("num_spks", num_spks)
        if memory.num_slots != transformer.block.attention.num_slots:
            raise ValueError(
                f"num_slots is {memory.num_slots} for the memory and "
                f"{transformer.block.attention.num_slots} for the block: give both the same key"
            )
        self.num_spks = num_spks
        self.memory = memory
        self.embed = NormedMLP(dim + 1, dim) if embed is None else embed
        self.transformer = transformer
        self.head = NormedMLP(dim, dim * num_spks) if head is None else head

    def forward(self, features, lengths=None, return_trace=False):
        """Estimate masks.

        Arguments
        ---------
        features : torch.Tensor
            [B, N, L].
        lengths : torch.Tensor, optional
            [B], relative to L.
        return_trace : bool
            Whether to return the recurrence's trace too (returned, not stored, so that what it
            carries has a gradient under any wrapper of this module).

        Returns
        -------
        torch.Tensor or (torch.Tensor, papez_lobes.recurrent.Trace)
            Masks in (-1, 1), [C, B, N, L].
        """
        batch, _, length = features.shape
        slots, counts, mask, joint_mask = self.memory.num_slots, None, None, None
        if lengths is not None:
            counts = to_counts(lengths, length)
            mask = to_mask(counts, length)
            joint_mask = F.pad(mask, (slots, 0), value=True)
        embedded = self.embed(self.memory(features.transpose(1, 2)), joint_mask)
        hidden, trace = self.transformer(embedded[:, slots:], embedded[:, :slots], counts)
        masks = self.head(hidden, mask).view(batch, length, self.num_spks, -1)
        masks = self._mask(masks).permute(2, 0, 3, 1)
        return (masks, trace) if return_trace else masks

    def _mask(self, x):
        return torch.tanh(x)
