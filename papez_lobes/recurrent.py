"""The recurrent loop, and its trace."""

from dataclasses import dataclass

import torch
from torch import nn

from papez_lobes.config.checks import check_whole
from papez_lobes.lengths import to_mask
from papez_lobes.pruning import Pruning


@dataclass
class Trace:
    """What the recurrence did.

    Arguments
    ---------
    depth : torch.Tensor
        [B, L], long: the steps that each token ran; 0 on padding.
    valid : torch.Tensor
        [B, L], bool: True on tokens, False on padding.
    expected_depth : torch.Tensor
        [B, L]: the steps weighed as their outputs are; what of the depth has a gradient.
    macs : int
        Multiply-accumulates that the steps did, padding and masked work included.

    Example
    -------
    >>> trace = Trace(torch.tensor([[3, 1, 0]]), torch.tensor([[True, True, False]]), None, 0)
    >>> trace.tokens_per_step.tolist(), trace.mean_depth.item()
    ([[2], [1], [1]], 2.0)
    """

    depth: torch.Tensor
    valid: torch.Tensor
    expected_depth: torch.Tensor
    macs: int

    @property
    def tokens_per_step(self):
        """[steps done, B], long: how many tokens ran at each step."""
        steps = torch.arange(int(self.depth.max()), device=self.depth.device)
        return (self.depth.unsqueeze(0) > steps[:, None, None]).sum(dim=-1)

    @property
    def mean_depth(self):
        """[]: mean over all tokens of the batch."""
        return self.depth.sum() / self.valid.sum()

    @property
    def ponder(self):
        """[B], with a gradient: each item's mean expected depth, what a ponder cost multiplies."""
        return self.expected_depth.sum(dim=1) / self.valid.sum(dim=1)


class RecurrentTransformer(nn.Module):
    """One block, applied until every token has halted (paper, Sec. 2.3).

    The result is the halting-weighted sum of the states of all steps.

    Arguments
    ---------
    block : papez_lobes.block.RecurrentBlock
        The layer.
    halting : papez_lobes.halting.Halting
        Decides which token stops when.
    pruning, execution : str
        See `papez_lobes.pruning.Pruning`.
    max_depth : int, optional
        Steps allowed, 1 to the block's `num_steps` (default). It only limits the loop: it can be
        changed on a trained model.
    min_train_depth : int, optional
        In training, the depth allowed is drawn anew for each batch, from this to `max_depth`, so
        that the model is of use at each of them. None (default): always `max_depth`.

    Example
    -------
    >>> from papez_lobes.block import RecurrentBlock
    >>> from papez_lobes.halting import Halting
    >>> block = RecurrentBlock(8, 2, 16, num_steps=6, num_slots=2, chunk_tokens=4)
    >>> loop = RecurrentTransformer(block, Halting(bias=-20.0), "hard", max_depth=4)
    >>> output, trace = loop(torch.randn(1, 9, 8), torch.randn(1, 2, 8))
    >>> output.shape, trace.tokens_per_step.squeeze(1).tolist()
    (torch.Size([1, 9, 8]), [9, 9, 9, 9])
    """

    def __init__(self, block, halting, pruning="hard", execution="auto", max_depth=None,
                 min_train_depth=None):
        super().__init__()
        max_depth = block.num_steps if max_depth is None else max_depth
        for key, depth in (("max_depth", max_depth), ("min_train_depth", min_train_depth)):
            if depth is not None:
                check_whole(key, depth)
        if max_depth > block.num_steps:
            raise ValueError(
                f"max_depth is {max_depth}: it must be between 1 and num_steps, {block.num_steps}"
            )
        if min_train_depth is not None and min_train_depth > max_depth:
            raise ValueError(
                f"min_train_depth is {min_train_depth}: it must be between 1 and max_depth, "
                f"{max_depth}, or null"
            )
        self.block = block
        self.halting = halting
        self.pruning = Pruning(pruning, execution, block.attend_padding)
        self.max_depth = max_depth
        self.min_train_depth = min_train_depth

    def _draw_depth(self):
        if not self.training or self.min_train_depth is None:
            return self.max_depth
        return int(torch.randint(self.min_train_depth, self.max_depth + 1, ()))

    def forward(self, tokens, memory, counts=None):
        """Run the recurrence.

        Arguments
        ---------
        tokens, memory : torch.Tensor
            The first states, [B, L, N] and [B, M, N].
        counts : torch.Tensor, optional
            [B], long: valid tokens of each item; None where all L are.

        Returns
        -------
        torch.Tensor
            [B, L, N]; zeros on padding.
        Trace
            The depth of each token.
        """
        batch, length, _ = tokens.shape
        own = counts
        if counts is None:  # not in the tokens' dtype: half precision cannot count that far
            own = torch.full((batch,), length, device=tokens.device)
        valid = to_mask(own, length)
        run = self.pruning.start(tokens, memory, counts, valid, self.block)
        state = self.halting.start(run.running, tokens.dtype)
        positions = self.block.project_positions()
        allowed = self._draw_depth()
        for step in range(allowed):
            logits = self.halting.logits(run.tokens)
            weights, state = self.halting(logits, state, step == allowed - 1)
            tokens, memory = self.block(run.tokens, memory, run.framing, positions, step)
            run.add(tokens, weights, step)
            if not state.running.any():
                break
            state = run.leave(state)
        return run.output, Trace(run.depth, valid, run.expected_depth, run.macs)
