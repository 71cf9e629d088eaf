"""The mask network of Papez."""

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_options
from papez_lobes.lengths import length_mask
from papez_lobes.norms import NormedMLP


class MaskNet(nn.Module):
    """Embeds features as tokens, runs the recurrence and estimates one mask per speaker.

    Arguments
    ---------
    dim : int
        Channels N of the tokens.
    num_spks : int
        Speakers C >= 1.
    memory : papez_lobes.memory.WorkingMemory
        Tags the tokens and puts the memory slots before them.
    transformer : papez_lobes.recurrent.RecurrentTransformer
        The recurrence, with the same N and number of slots.
    embed : torch.nn.Module, optional
        Maps slots and features, with their tag, to slots and tokens: x [B, M + L, N + 1], mask
        [B, M + L] -> [B, M + L, N]. None: the authors' `NormedMLP`, for features of N channels.
    head : torch.nn.Module, optional
        Maps tokens to the masks of all speakers: x [B, L, N], mask [B, L] -> [B, L, C * N]. None:
        the authors' `NormedMLP`, for masks of N channels.
    convolution : torch.nn.Module, optional
        Applied to the tokens before the recurrence: x [B, L, N], mask [B, L] -> [B, L, N]; see
        `papez_lobes.convolution.TemporalConvolution`. None: no convolution, as the authors.

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

    takes_lengths = True
    gives_trace = True

    def __init__(
        self, dim: int, num_spks: int, memory: nn.Module, transformer: nn.Module,
        embed: nn.Module | None = None, head: nn.Module | None = None,
        convolution: nn.Module | None = None,
    ):
        super().__init__()
        check_options(num_spks=num_spks)
        if memory.num_slots != transformer.block.num_slots:
            raise ValueError(
                f"num_slots is {memory.num_slots} for the memory and "
                f"{transformer.block.num_slots} for the block: give both the same key"
            )
        self.num_spks = num_spks
        self.memory = memory
        self.embed = NormedMLP(dim + 1, dim) if embed is None else embed
        self.convolution = convolution
        self.transformer = transformer
        self.head = NormedMLP(dim, dim * num_spks) if head is None else head

    @property
    def compilable(self) -> list[nn.Module]:
        """The parts that `torch.compile` may compile: the same computation at all depths."""
        return [self.embed, self.transformer.block, self.head]

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor | None = None,
        return_trace: bool = False,
    ):
        """Estimate masks.

        Arguments
        ---------
        features : torch.Tensor
            [B, N, L].
        lengths : torch.Tensor, optional
            [B], relative to L. None: all features are valid.
        return_trace : bool
            True: also return the trace of the recurrence.

        Returns
        -------
        torch.Tensor or (torch.Tensor, papez_lobes.recurrent.Trace)
            Masks [C, B, N, L] in (-1, 1).
        """
        num_slots = self.memory.num_slots
        mask = length_mask(lengths, features.shape[2])  # [B, L]
        joint_mask = None if mask is None else F.pad(mask, (num_slots, 0), value=True)  # [B, M + L]
        joint = self.embed(self.memory(features.transpose(1, 2)), joint_mask)  # [B, M + L, N]
        memory, tokens = joint[:, :num_slots], joint[:, num_slots:]
        if self.convolution is not None:
            tokens = self.convolution(tokens, mask)
        output, trace = self.transformer(tokens, memory, mask)
        masks = self.head(output, mask).unflatten(2, (self.num_spks, -1))  # [B, L, C, N]
        masks = self._bound(masks).permute(2, 0, 3, 1)  # [C, B, N, L]
        return (masks, trace) if return_trace else masks

    def _bound(self, masks):
        """The range of masks [B, L, C, N]: (-1, 1)."""
        return torch.tanh(masks)
