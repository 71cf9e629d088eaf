"""Variants of the model that only ablations use; see `hparams/ablations/`."""

import torch
from torch import nn

from papez_lobes.block import RecurrentBlock
from papez_lobes.config.checks import check_options
from papez_lobes.framing import OverlappingChunks
from papez_lobes.halting import Halting
from papez_lobes.memory import WorkingMemory
from papez_lobes.norms import EPS


class LearnedMemory(WorkingMemory):
    """A working memory whose first state is learned, beginning with that of `WorkingMemory`.

    Arguments
    ---------
    num_slots : int
        Slots M, from 0 to `dim`.
    dim : int
        Channels N.

    Example
    -------
    >>> memory = LearnedMemory(num_slots=2, dim=3)
    >>> [tuple(parameter.shape) for parameter in memory.parameters()]
    [(2, 4)]
    """

    def __init__(self, num_slots: int, dim: int):
        super().__init__(num_slots, dim)
        first = self.slots
        del self.slots
        self.slots = nn.Parameter(first)


class NetworkHalting(Halting):
    """Halting from a small network on the token, instead of its last channel.

    Arguments
    ---------
    dim : int
        Channels N of a token.
    hidden_dim : int
        Channels of the hidden layer.
    threshold, bias, close_remainder
        See `papez_lobes.halting.Halting`.

    Example
    -------
    >>> NetworkHalting(8, 4).logits(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, dim: int, hidden_dim: int, threshold: float = 0.9, bias: float = 0.0,
        close_remainder: bool = True,
    ):
        super().__init__(threshold, bias, close_remainder)
        check_options(halting_dim=hidden_dim)
        self.network = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1)
        )

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """The halting logits [...] of tokens [..., N]."""
        return self.network(tokens).squeeze(-1)


class NoHalting(Halting):
    """All tokens run all steps that are allowed, and the last state is the result.

    Example
    -------
    >>> halting = NoHalting()
    >>> state = halting.start(torch.tensor([[True, False]]))
    >>> [halting(torch.tensor([[9.0, 9.0]]), state, last)[0].tolist() for last in (False, True)]
    [[[0.0, 0.0]], [[1.0, 0.0]]]
    """

    def forward(self, logits, state, last):
        """Like `Halting.forward`, whatever the logits."""
        weights = state.running.to(state.cumulative.dtype) * float(last)
        return weights, state


class SharedLayerNorm(nn.LayerNorm):
    """Layer norm with the same gain and bias at every step.

    Example
    -------
    >>> SharedLayerNorm(8)(torch.randn(2, 5, 8), step=3).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int):
        super().__init__(dim, EPS)

    def forward(self, x, step):
        """Normalise x [..., N]."""
        return super().forward(x)


class SharedNormBlock(RecurrentBlock):
    """A recurrent block whose layer norms are the same at every step.

    Arguments are those of `papez_lobes.block.RecurrentBlock`.
    """

    def __init__(self, dim: int, *args, **kwargs):
        super().__init__(dim, *args, **kwargs)
        self.norm1 = SharedLayerNorm(dim)
        self.norm2 = SharedLayerNorm(dim)


class DisjointChunks(OverlappingChunks):
    """Chunks side by side: each token is in one chunk, and P = K.

    Example
    -------
    >>> chunks, x = DisjointChunks(4), torch.arange(1.0, 6.0).view(1, 5, 1)
    >>> torch.cat(chunks.split(x), dim=2).squeeze().int().tolist()
    [[1, 2, 3, 4], [5, 0, 0, 0]]
    """

    copies = 1

    def join(self, chunks, num_tokens):
        """Chunks [B, S, K, D] to tokens [B, L, D]."""
        return chunks.flatten(1, 2)[:, :num_tokens]


class DisjointBlock(RecurrentBlock):
    """A recurrent block whose chunks do not overlap.

    Arguments are those of `papez_lobes.block.RecurrentBlock`, with `attend_padding: False`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.attend_padding:
            raise ValueError("attend_padding is True: chunks side by side take False")
        self.chunks = DisjointChunks(self.chunks.size)


class SeparateBlocks(nn.Module):
    """One block per step, instead of one that recurs.

    In training, blocks of steps that no token reaches get a gradient of zeros. Without a gradient
    they would abort distributed training.

    Arguments
    ---------
    num_steps : int
        Steps R, and blocks.
    options
        The other arguments of `papez_lobes.block.RecurrentBlock`, by name.

    Example
    -------
    >>> blocks = SeparateBlocks(
    ...     num_steps=3, dim=8, num_heads=2, ffn_dim=16, num_slots=2, chunk_tokens=4)
    >>> [step.num_steps for step in blocks.steps], blocks.chunks.size
    ([1, 1, 1], 4)
    """

    def __init__(self, num_steps: int, **options):
        super().__init__()
        check_options(num_steps=num_steps)
        self.steps = nn.ModuleList(
            RecurrentBlock(num_steps=1, **options) for _ in range(num_steps)
        )
        self.num_steps = num_steps
        first = self.steps[0]
        self.num_slots, self.attend_padding = first.num_slots, first.attend_padding
        self.chunks = first.chunks

    def project_positions(self) -> list[torch.Tensor]:
        """Like `RecurrentBlock.project_positions`, for each step."""
        first, *others = (step.project_positions() for step in self.steps)
        if self.training:  # the first step always runs: through it, zeros reach all parameters
            first = first + 0 * sum(parameter.sum() for parameter in self.parameters())
        return [first, *others]

    def forward(self, tokens, memory, framing, positions, step):
        """Like `RecurrentBlock.forward`."""
        return self.steps[step](tokens, memory, framing, positions[step], 0)
