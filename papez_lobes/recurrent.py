"""The recurrence: one block, applied until every token has halted (paper, Sec. 2.3)."""

from dataclasses import dataclass

import torch
from torch import nn

from papez_lobes.config.checks import check_options
from papez_lobes.pruning import check_pruning, choose_framing


@dataclass
class Trace:
    """A record of what the recurrence did.

    Example
    -------
    >>> trace = Trace(torch.tensor([[3, 1, 0]]), torch.tensor([[True, True, False]]), None)
    >>> trace.tokens_per_step.tolist(), trace.mean_depth.item()
    ([[2], [1], [1]], 2.0)
    """

    depth: torch.Tensor  # [B, L], long: steps that each token ran; 0 on padding
    valid: torch.Tensor  # [B, L], bool: True on tokens, False on padding
    expected_depth: torch.Tensor  # [B, L], differentiable: steps weighted by halting probability

    @property
    def tokens_per_step(self):
        """[steps, B], long: the number of tokens that ran at each step."""
        steps = torch.arange(int(self.depth.max()), device=self.depth.device)
        return (self.depth.unsqueeze(0) > steps[:, None, None]).sum(dim=-1)

    @property
    def mean_depth(self):
        """[]: the mean depth of all tokens of the batch."""
        return self.depth.sum() / self.valid.sum()

    @property
    def ponder(self):
        """[B]: each item's mean expected depth, for a ponder cost."""
        return self.expected_depth.sum(dim=1) / self.valid.sum(dim=1)


class RecurrentTransformer(nn.Module):
    """One block, applied until every token has halted or the depth limit is reached.

    The result is the sum of each token's states after all steps, weighted by halting.

    Arguments
    ---------
    block : papez_lobes.block.RecurrentBlock
        The transformer layer.
    halting : papez_lobes.halting.Halting
        Decides at which step each token halts.
    pruning : str
        'soft' or 'hard'; see `papez_lobes.pruning`.
    execution : str
        'packed', 'masked' or 'auto'; see `papez_lobes.pruning`.
    max_depth : int, optional
        Depth limit in steps, 1 to the block's `num_steps` (default). It can be changed on a
        trained model.
    min_train_depth : int, optional
        In training, the depth limit of each batch is drawn from this to `max_depth`, so that the
        trained model can be used with any of them. None (default): always `max_depth`.

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

    def __init__(
        self, block: nn.Module, halting: nn.Module, pruning: str = "hard",
        execution: str = "auto", max_depth: int | None = None, min_train_depth: int | None = None,
    ):
        super().__init__()
        max_depth = block.num_steps if max_depth is None else max_depth
        check_options(max_depth=max_depth, min_train_depth=min_train_depth)
        if max_depth > block.num_steps:
            raise ValueError(
                f"max_depth is {max_depth}: it must be between 1 and num_steps, {block.num_steps}"
            )
        if min_train_depth is not None and min_train_depth > max_depth:
            raise ValueError(f"min_train_depth is {min_train_depth}: it must be between 1 and "
                             f"max_depth, {max_depth}, or null")
        check_pruning(pruning, execution, block.attend_padding)
        self.block = block
        self.halting = halting
        self.pruning = pruning
        self.execution = execution
        self.max_depth = max_depth
        self.min_train_depth = min_train_depth

    def forward(
        self, tokens: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Trace]:
        """Run the recurrence.

        Arguments
        ---------
        tokens : torch.Tensor
            [B, L, N], the first states.
        memory : torch.Tensor
            [B, M, N], the first states of the slots.
        mask : torch.Tensor, optional
            [B, L], bool: True on tokens, False on padding. None: there is no padding.

        Returns
        -------
        output : torch.Tensor
            [B, L, N]; zeros on padding.
        trace : Trace
            The depth of each token.
        """
        batch, length, dim = tokens.shape
        valid = mask
        if mask is None:
            valid = torch.ones(batch, length, dtype=torch.bool, device=tokens.device)
        block = self.block
        kind = choose_framing(self.pruning, self.execution, block.attend_padding, tokens.device)
        framing = kind(valid, block.chunks, block.num_slots)
        positions = block.project_positions()
        wide = torch.promote_types(tokens.dtype, torch.float32)  # sums are not in half precision
        output = tokens.new_zeros(batch * length, dim, dtype=wide)
        expected_depth = tokens.new_zeros(batch * length, dtype=wide)
        depth = tokens.new_zeros(batch * length, dtype=torch.long)

        tokens = framing.select(tokens)
        state = self.halting.start(framing.select(valid), wide)
        depth_limit = self._draw_depth_limit()
        for step in range(depth_limit):
            depth = framing.add_to(depth, state.running.long())
            last = step == depth_limit - 1
            weights, state = self.halting(self.halting.logits(tokens), state, last)
            tokens, memory = block(tokens, memory, framing, positions, step)
            output = self._add_weighted(output, weights, tokens, framing)
            expected_depth = framing.add_to(expected_depth, weights * (step + 1))
            if last or not state.running.any():
                break
            framing, tokens, state = framing.prune(tokens, state)

        shape = (batch, length)
        trace = Trace(depth.unflatten(0, shape), valid, expected_depth.unflatten(0, shape))
        return output.unflatten(0, shape), trace

    def _draw_depth_limit(self):
        """The depth limit of a batch, which is random in training with `min_train_depth`."""
        if not self.training or self.min_train_depth is None:
            return self.max_depth
        return int(torch.randint(self.min_train_depth, self.max_depth + 1, ()))

    def _add_weighted(self, output, weights, tokens, framing):
        """Add weighted token states to the output of all tokens [B * L, N]."""
        return framing.add_to(output, weights.unsqueeze(-1) * tokens)
