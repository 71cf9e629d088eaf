"""The recurrent transformer layer (paper, Sec. 2.2 and 2.3)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from papez_lobes.config.checks import check_heads, check_options
from papez_lobes.framing import DenseFraming, OverlappingChunks
from papez_lobes.norms import StepLayerNorm
from papez_lobes.packing import PackedFraming


def sinusoidal_positions(length: int, dim: int) -> torch.Tensor:
    """The position code [length, dim] of Vaswani et al. (2017, Sec. 3.5), sin on even channels.

    Example
    -------
    >>> sinusoidal_positions(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(1e4) / dim))
    code = torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1)
    return code.flatten(1)[:, :dim].float()


def _attend_by_products(query, key, value, mask, dropout):
    """`torch.nn.functional.scaled_dot_product_attention`, written as matrix products."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))
    if mask is not None:
        scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = F.dropout(scores.softmax(dim=-1), dropout, training=dropout > 0)
    return torch.matmul(weights, value)


class ChunkAttention(nn.Module):
    """Self-attention within each chunk, over [M memory slots | K tokens].

    Two linear maps are applied where they cost least, which does not change the result. Each token
    is projected once, not once per chunk, and the projected position code is added in the chunks.
    The two outputs of a token are averaged before the output projection. For the arguments see
    `RecurrentBlock`.
    """

    def __init__(
        self, dim: int, num_heads: int, num_slots: int, chunk_tokens: int, dropout: float = 0.0
    ):
        super().__init__()
        check_options(dim=dim, num_slots=num_slots, chunk_tokens=chunk_tokens)
        check_heads(num_heads, dim)
        if chunk_tokens % 2:
            raise ValueError(f"chunk_tokens is {chunk_tokens}: it must be even and at least 2")
        self.num_heads = num_heads
        self.num_slots = num_slots
        self.dropout = dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)  # as torch.nn.MultiheadAttention
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
        positions = sinusoidal_positions(num_slots + chunk_tokens, dim)
        self.register_buffer("positions", positions, persistent=False)

    def project_positions(self) -> torch.Tensor:
        """The position code after the input projection, with its bias: [M + K, 3 N]."""
        return self.in_proj(self.positions.to(self.in_proj.bias.dtype))

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens and slots [..., N] to queries, keys and values [..., 3 N], without the bias."""
        return F.linear(x, self.in_proj.weight)

    def forward(
        self, tokens: torch.Tensor, memory: torch.Tensor,
        framing: DenseFraming | PackedFraming, positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend within each chunk.

        Arguments
        ---------
        tokens : torch.Tensor
            [B, L, N]; where they are packed [n, N].
        memory : torch.Tensor
            [B, M, N].
        framing : DenseFraming or PackedFraming
            The chunks of this step.
        positions : torch.Tensor
            The result of `project_positions`, which is the same for all steps.

        Returns
        -------
        tokens : torch.Tensor
            The mean of each token's two chunks, before the output projection. `RecurrentBlock`
            applies that (`out_proj`) once to the mean, instead of to both copies.
        memory : torch.Tensor
            [B, M, N]: the mean over all chunks that count, before the output projection.
        """
        projected = self.project(framing.concatenate(tokens, memory))
        chunks = framing.gather(projected, positions)
        attended = [self.attend(sequences, mask) for sequences, mask in chunks]
        return framing.scatter(attended)

    def attend(self, sequences: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Multi-head attention of projected sequences [n, T, 3 N]: [n, T, N]."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [n, H, T, N / H]
            for part in sequences.chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        if sequences.dtype == torch.bfloat16 and sequences.device.type == "cpu":
            # there torch's own is slower, and its backward pass takes five times as long
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
            attended = _attend_by_products(query, key, value, mask, dropout)
        else:
            attended = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return attended.transpose(1, 2).flatten(2)


class RecurrentBlock(nn.Module):
    """The one transformer layer, which Papez applies at every step (paper, Sec. 2.3).

    Post-norm. All steps share its weights, except that each of the two layer norms has one gain
    and bias per step. Tokens and memory slots pass through the same norms and feed-forward.

    Arguments
    ---------
    dim : int
        Channels N.
    num_heads : int
        Heads H; H divides N.
    ffn_dim : int
        Width of the feed-forward.
    num_steps : int
        Steps R that exist.
    num_slots : int
        Memory slots M.
    chunk_tokens : int
        Tokens of a chunk K, even.
    dropout : float
        Of attention weights, of the averaged tokens, and inside and after the feed-forward.
    attend_padding : bool
        True reproduces the authors, where padding is attended and counted. It requires soft
        pruning.

    Example
    -------
    >>> block = RecurrentBlock(8, 2, 16, num_steps=3, num_slots=2, chunk_tokens=4)
    >>> running = torch.ones(1, 9, dtype=torch.bool)
    >>> framing = DenseFraming(running, block.chunks, block.num_slots)
    >>> tokens, memory = block(
    ...     torch.randn(1, 9, 8), torch.randn(1, 2, 8), framing,
    ...     block.project_positions(), step=0)
    >>> tokens.shape, memory.shape
    (torch.Size([1, 9, 8]), torch.Size([1, 2, 8]))
    """

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, num_steps: int, num_slots: int,
        chunk_tokens: int, dropout: float = 0.0, attend_padding: bool = False,
    ):
        super().__init__()
        check_options(
            ffn_dim=ffn_dim, num_steps=num_steps, dropout=dropout, attend_padding=attend_padding
        )
        self.num_steps = num_steps
        self.num_slots = num_slots
        self.attend_padding = attend_padding
        self.attention = ChunkAttention(dim, num_heads, num_slots, chunk_tokens, dropout)
        self.chunks = OverlappingChunks(chunk_tokens)
        self.norm1 = StepLayerNorm(num_steps, dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = StepLayerNorm(num_steps, dim)
        self.dropout = nn.Dropout(dropout)

    def project_positions(self) -> torch.Tensor:
        """What `forward` takes as `positions`, computed once for all steps."""
        return self.attention.project_positions()

    def forward(
        self, tokens: torch.Tensor, memory: torch.Tensor,
        framing: DenseFraming | PackedFraming, positions: torch.Tensor, step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one step, counted from 0.

        Arguments
        ---------
        tokens, memory, framing, positions
            As `ChunkAttention.forward`.
        step : int
            Selects the gains and biases of the layer norms.

        Returns
        -------
        tokens, memory : torch.Tensor
            Their states after the step, of the same shapes.
        """
        attended_tokens, attended_memory = self.attention(tokens, memory, framing, positions)
        tokens = self._update_tokens(tokens, attended_tokens, step)
        memory = self._update(memory, self.attention.out_proj(attended_memory), step)
        return tokens, memory

    def _update_tokens(self, tokens, attended, step):
        """The rest of the layer for tokens, after attention."""
        return self._update(tokens, self.dropout(self.attention.out_proj(attended)), step)

    def _update(self, x, attended, step):
        """Residual sum, norm and feed-forward of tokens or slots [..., N]."""
        x = self.norm1(x + attended, step)
        return self.norm2(x + self.dropout(self._feed_forward(x)), step)

    def _feed_forward(self, x):
        """The feed-forward layers, with the rectifier and dropout between them."""
        return self.linear2(self.dropout(F.relu(self.linear1(x))))
