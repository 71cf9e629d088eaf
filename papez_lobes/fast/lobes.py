"""The lobes by blocks of rows, for inference on a CPU.

`swap_in` gives the lobes of a separator these classes in place of their own. Each computes what
its plain class does, a few thousand rows at a time; with gradients it computes all at once. What
a step needs of all tokens, their projection and their attended copies, is kept in memory that all
steps of a recurrence share.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache

import torch
from torch import nn

from papez_lobes.block import ChunkAttention, RecurrentBlock
from papez_lobes.fast.blocking import Buffers, by_rows, row_blocks, sequence_blocks
from papez_lobes.fast.linear import rectified
from papez_lobes.norms import NormedMLP, TimeNorm
from papez_lobes.packing import PackedFraming, take_rows
from papez_lobes.recurrent import RecurrentTransformer

_buffers = ContextVar("buffers", default=None)  # of the recurrence that runs in this thread


class BlockwiseTimeNorm(TimeNorm):
    """`papez_lobes.norms.TimeNorm` by blocks of rows."""

    def squares(self, x, mean):
        """Like `TimeNorm.squares`."""
        squares = super().squares
        return sum(squares(x[:, block], mean) for block in row_blocks(x, dim=1))


class BlockwiseMLP(NormedMLP):
    """`papez_lobes.norms.NormedMLP` by blocks of rows."""

    def forward(self, x, mask=None):
        """Like `NormedMLP.forward`."""
        x = self.linear_in(x)
        mean, scale = self.norm.statistics(x, mask)

        def finish(rows):
            return self.linear_out(self.activation(self.norm.normalise(rows, mean, scale)))

        return by_rows(finish, x, dim=1)


class BlockwiseAttention(ChunkAttention):
    """`papez_lobes.block.ChunkAttention`, a few chunks at a time.

    The bias of the input projection is added to the tokens, where it costs nothing, and not to the
    position code.
    """

    attention_dtype = None  # of queries, keys and values; None: that of the projection

    def project_positions(self):
        """Like `ChunkAttention.project_positions`, without the bias."""
        return self._cast(super().project_positions() - self.in_proj.bias)

    def project(self, x):
        """Like `ChunkAttention.project`, with the bias."""
        return self._cast(self.in_proj(x))

    def _cast(self, x):
        return x if self.attention_dtype is None else x.to(self.attention_dtype)

    def forward(self, tokens, memory, framing, positions):
        """Like `ChunkAttention.forward`."""
        if torch.is_grad_enabled() or not isinstance(framing, PackedFraming):
            return super().forward(tokens, memory, framing, positions)
        buffers = _buffers.get() or Buffers()
        projected = by_rows(
            self.project, framing.concatenate(tokens, memory),
            make=lambda like, count: buffers.take("projected", like, count),
        )
        attended = self._attend_groups(framing.groups, projected, positions, buffers)
        tokens = by_rows(
            lambda *copies: framing.mean_of_copies(attended, copies), *framing.copy_rows
        )
        return tokens, framing.mean_memory(attended)

    def _attend_groups(self, groups, projected, positions, buffers):
        """The rows of all attended chunks, one group after another."""
        attended, done, total = None, 0, sum(group.source_rows.numel() for group in groups)
        for group in groups:
            for block in sequence_blocks(group.source_rows, projected.shape[1]):
                chunks = take_rows(projected, group.source_rows[block])
                places = None if group.places is None else group.places[block]
                chunks += positions if places is None else take_rows(positions, places)
                mask = None if group.mask is None else group.mask[block]
                rows = super().attend(chunks, mask).flatten(0, 1)
                if len(rows) == total:
                    return rows
                if attended is None:
                    attended = buffers.take("attended", rows, total)
                attended[done:done + len(rows)] = rows
                done += len(rows)
        return attended

    def attend(self, sequences, mask):
        """Like `ChunkAttention.attend`."""
        attend, blocks = super().attend, sequence_blocks(sequences, sequences.shape[2])
        if len(blocks) == 1:
            return attend(sequences, mask)
        return torch.cat([
            attend(sequences[block], None if mask is None else mask[block]) for block in blocks
        ])


class BlockwiseBlock(RecurrentBlock):
    """`papez_lobes.block.RecurrentBlock` by blocks of rows."""

    def _update_tokens(self, tokens, attended, step):
        update = super()._update_tokens
        return by_rows(lambda *rows: update(*rows, step), tokens, attended)

    def _feed_forward(self, x):
        return self.linear2(self.dropout(rectified(self.linear1, x)))


class BlockwiseTransformer(RecurrentTransformer):
    """`papez_lobes.recurrent.RecurrentTransformer` by blocks of rows."""

    def forward(self, tokens, memory, mask=None):
        """Like `RecurrentTransformer.forward`."""
        before = _buffers.set(Buffers())
        try:
            return super().forward(tokens, memory, mask)
        finally:
            _buffers.reset(before)

    def _add_weighted(self, output, weights, tokens, framing):
        if torch.is_grad_enabled() or not isinstance(framing, PackedFraming):
            return super()._add_weighted(output, weights, tokens, framing)
        for block in row_blocks(tokens):
            weighted = weights[block].unsqueeze(-1) * tokens[block]
            output.index_add_(0, framing.token_index[block], weighted)
        return output


BLOCKWISE = {
    TimeNorm: BlockwiseTimeNorm,
    NormedMLP: BlockwiseMLP,
    ChunkAttention: BlockwiseAttention,
    RecurrentBlock: BlockwiseBlock,
    RecurrentTransformer: BlockwiseTransformer,
}


def swap_in(modules: Mapping[str, nn.Module]):
    """Give all lobes below some modules their class from here. It changes them in place.

    Example
    -------
    >>> mlp = NormedMLP(5, 8)
    >>> swap_in({"mlp": mlp})
    >>> isinstance(mlp, BlockwiseMLP) and isinstance(mlp.norm, BlockwiseTimeNorm)
    True
    """
    for lobe in nn.ModuleDict(modules).modules():
        for plain, blockwise in BLOCKWISE.items():
            if isinstance(lobe, plain) and not isinstance(lobe, blockwise):
                lobe.__class__ = _with(blockwise, type(lobe))


@cache
def _with(blockwise, plain):
    """A class with a lobe's methods from here, and all else from its own, maybe an ablation's."""
    return type(f"Blockwise{plain.__name__}", (blockwise, plain), {})
