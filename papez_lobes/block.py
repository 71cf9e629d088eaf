"""One recurrent block: (tokens, memory, step) -> (tokens, memory)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_dropout, check_flag, check_heads, check_whole
from papez_lobes.norms import StepLayerNorm
from papez_lobes.precision import Linear
from papez_lobes.rows import by_rows


def sinusoidal_positions(length, dim):
    """The fixed code of Vaswani et al. (2017, Sec. 3.5): [length, dim], sin on even channels.

    Example
    -------
    >>> sinusoidal_positions(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(1e4) / dim))
    code = torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1)
    return code.flatten(1)[:, :dim].float()


def attend_by_products(query, key, value, mask=None, dropout_p=0.0):
    """`torch.nn.functional.scaled_dot_product_attention` as plain products.

    Example
    -------
    >>> q, k, v = torch.randn(3, 2, 4, 7, 8)
    >>> mask = (torch.arange(7) < 5).view(1, 7)
    >>> fused = F.scaled_dot_product_attention(q, k, v, mask)
    >>> bool(torch.allclose(attend_by_products(q, k, v, mask), fused, atol=1e-6))
    True
    """
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))
    if mask is not None:
        scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = F.dropout(scores.softmax(dim=-1), dropout_p, training=dropout_p > 0)
    return torch.matmul(weights, value)


class ChunkAttention(nn.Module):
    """Self-attention in chunks, each over [M memory slots | K tokens].

    Two savings that change no number, since projections are linear: each token is projected once
    and the projected position code is added per chunk, and the two outputs of a token are
    averaged before the one output projection.

    Arguments
    ---------
    dim, num_heads : int
        Channels N and heads H; H divides N.
    num_slots, chunk_tokens : int
        M and K; K is even.
    dropout : float
        On the attention weights.
    """

    def __init__(self, dim, num_heads, num_slots, chunk_tokens, dropout=0.0):
        super().__init__()
        check_whole("the width (N_encoder_out, bottleneck_dim)", dim)
        check_whole("num_slots", num_slots, 0)
        check_whole("chunk_tokens", chunk_tokens)
        check_heads(num_heads, dim)
        if chunk_tokens % 2:
            raise ValueError(f"chunk_tokens is {chunk_tokens}: it must be even and at least 2")
        self.num_heads, self.num_slots, self.chunk_tokens = num_heads, num_slots, chunk_tokens
        self.dropout = dropout
        self.attention_dtype = None  # of queries, keys and values; None: what the projection gives
        self.in_proj = Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)  # as torch.nn.MultiheadAttention
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
        positions = sinusoidal_positions(num_slots + chunk_tokens, dim)
        self.register_buffer("positions", positions, persistent=False)

    def project_positions(self):
        """The position code through the input projection, bias included: [M + K, 3 N]."""
        return self.in_proj(self.positions.to(self.in_proj.bias.dtype))

    def forward(self, tokens, memory, framing, positions):
        """Attend within each chunk.

        Arguments
        ---------
        tokens, memory : torch.Tensor
            [B, L, N] (or, packed, rows [n, N]) and [B, M, N].
        framing : papez_lobes.framing.DenseFraming or papez_lobes.packing.PackedFraming
            The chunks of this step.
        positions : torch.Tensor
            What `project_positions` gave, once for all steps.

        Returns
        -------
        (torch.Tensor, torch.Tensor)
            The mean of each token's two chunks, shaped as `tokens`, and of all chunks that count,
            [B, M, N]; both before the output projection, `out_proj`.
        """
        if self.attention_dtype is not None:
            positions = positions.to(self.attention_dtype)
        sequences = framing.spread(tokens, memory, positions, self._project)
        return framing.merge((self._attend(*sequence) for sequence in sequences), self.num_slots)

    def _project(self, x):
        x = self.in_proj.product(x)
        return x if self.attention_dtype is None else x.to(self.attention_dtype)

    def _attend(self, sequence, mask):
        """Multi-head attention of sequences [n, T, 3 N], already projected: [n, T, N]."""
        heads, attend = self._heads(sequence), F.scaled_dot_product_attention
        if sequence.dtype == torch.bfloat16 and sequence.device.type == "cpu":
            # there torch's fused attention is slower, and its backward pass five times as slow
            heads, attend = [part.contiguous() for part in heads], attend_by_products
        dropout = self.dropout if self.training else 0.0
        return attend(*heads, mask, dropout_p=dropout).transpose(1, 2).flatten(2)

    def _heads(self, sequence):
        """[n, T, 3 N] as queries, keys and values [n, H, T, N / H]: parts of it whose gradients
        come together by one copy."""
        parts = sequence.chunk(3, dim=-1)
        return tuple(part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)


class RecurrentBlock(nn.Module):
    """The one transformer layer that Papez applies again and again (paper, Sec. 2.3).

    Post-norm; all steps share its weights, but the two layer norms own one affine per step.
    Tokens and memory slots pass through the same norms and feed-forward.

    Arguments
    ---------
    dim, num_heads, ffn_dim : int
        Channels N, heads H, width of the feed-forward.
    num_steps : int
        Steps R that exist.
    num_slots, chunk_tokens : int
        M and K (even).
    dropout : float
        On attention weights, averaged tokens, inside and after the feed-forward.
    attend_padding : bool
        True reproduces the authors, where padding is attended and counted. It takes soft pruning.
    norm : type
        Of both layer norms, called with `num_steps` and `dim`.
    copies : int
        Chunks that a token is in: 2, or 1 for chunks that do not overlap (an ablation).

    Example
    -------
    >>> block = RecurrentBlock(8, 2, 16, num_steps=3, num_slots=2, chunk_tokens=4)
    >>> from papez_lobes.framing import DenseFraming
    >>> framing = DenseFraming.of_tokens(torch.ones(1, 9, dtype=torch.bool), 4)
    >>> tokens, memory = block(
    ...     torch.randn(1, 9, 8), torch.randn(1, 2, 8), framing,
    ...     block.project_positions(), step=0)
    >>> tokens.shape, memory.shape
    (torch.Size([1, 9, 8]), torch.Size([1, 2, 8]))
    """

    def __init__(
        self, dim, num_heads, ffn_dim, num_steps, num_slots, chunk_tokens,
        dropout=0.0, attend_padding=False, norm=StepLayerNorm, copies=2,
    ):
        super().__init__()
        check_whole("ffn_dim", ffn_dim)
        check_whole("num_steps", num_steps)
        check_dropout(dropout)
        check_flag("attend_padding", attend_padding)
        if copies not in (1, 2) or (copies == 1 and attend_padding):
            raise ValueError(f"copies is {copies}: it must be 2, or 1 with attend_padding: False")
        self.num_steps, self.attend_padding, self.copies = num_steps, attend_padding, copies
        self.attention = ChunkAttention(dim, num_heads, num_slots, chunk_tokens, dropout)
        self.norm1 = norm(num_steps, dim)
        self.linear1 = Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = norm(num_steps, dim)
        self.dropout = nn.Dropout(dropout)

    @property
    def chunk_tokens(self):
        """K."""
        return self.attention.chunk_tokens

    def project_positions(self):
        """What `forward` takes as `positions`: computed once for all steps."""
        return self.attention.project_positions()

    def macs(self, rows, pairs):
        """Multiply-accumulates of one step over that many rows and query-key pairs."""
        dim, ffn_dim = self.linear1.in_features, self.linear1.out_features
        return rows * (4 * dim * dim + 2 * dim * ffn_dim) + 2 * pairs * dim

    def forward(self, tokens, memory, framing, positions, step):
        """One step; arguments and results as `ChunkAttention.forward`, `step` 0-based."""
        heard, written = self.attention(tokens, memory, framing, positions)
        tokens = by_rows(lambda *rows: self._hear(*rows, step), tokens, heard)
        return tokens, self._finish(memory, self.attention.out_proj(written), step)

    def _hear(self, x, heard, step):
        return self._finish(x, self.dropout(self.attention.out_proj(heard)), step)

    def _finish(self, x, added, step):
        """Sum, norm and feed-forward, for each row alone: [..., N] and [..., N] to [..., N]."""
        x = self.norm1(x + added, step)
        hidden = self.dropout(self.linear1.rectified(x))
        return self.norm2(x + self.dropout(self.linear2(hidden)), step)


class SeparateBlocks(nn.Module):
    """A block of its own for each step, in place of one that recurs (an ablation).

    In training, the blocks of steps that no token reaches get a gradient of zeros, not none, which
    would abort distributed training.

    Arguments
    ---------
    dim, num_heads, ffn_dim, num_steps, num_slots, chunk_tokens, dropout, attend_padding
        See `RecurrentBlock`.

    Example
    -------
    >>> blocks = SeparateBlocks(8, 2, 16, num_steps=3, num_slots=2, chunk_tokens=4)
    >>> [step.num_steps for step in blocks.steps], blocks.chunk_tokens
    ([1, 1, 1], 4)
    """

    def __init__(self, dim, num_heads, ffn_dim, num_steps, num_slots, chunk_tokens,
                 dropout=0.0, attend_padding=False):
        super().__init__()
        check_whole("num_steps", num_steps)
        self.steps = nn.ModuleList(
            RecurrentBlock(dim, num_heads, ffn_dim, 1, num_slots, chunk_tokens, dropout,
                           attend_padding)
            for _ in range(num_steps)
        )
        self.num_steps, self.attend_padding = num_steps, attend_padding
        self.copies = self.steps[0].copies

    @property
    def attention(self):
        """Of the first step: the others have the same sizes."""
        return self.steps[0].attention

    @property
    def chunk_tokens(self):
        """K."""
        return self.steps[0].chunk_tokens

    def project_positions(self):
        """As `RecurrentBlock.project_positions`, a list of each step's."""
        first, *others = (step.project_positions() for step in self.steps)
        if self.training:  # the first step always runs: through it, zeros reach all parameters
            first = first + 0 * sum(parameter.sum() for parameter in self.parameters())
        return [first, *others]

    def macs(self, rows, pairs):
        """As `RecurrentBlock.macs`."""
        return self.steps[0].macs(rows, pairs)

    def forward(self, tokens, memory, framing, positions, step):
        """As `RecurrentBlock.forward`."""
        return self.steps[step](tokens, memory, framing, positions[step], 0)
