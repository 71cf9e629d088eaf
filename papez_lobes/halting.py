"""Token halting (paper, Sec. 2.3)."""

from dataclasses import dataclass

import torch
from torch import nn

from papez_lobes.config.checks import check_options


@dataclass
class HaltingState:
    """The halting state between two steps.

    Its tensors have the shape of the tokens, without their channels: [B, L], or [n] where they are
    packed. A token's sum means nothing any more once it has halted. Padding never runs.
    """

    cumulative: torch.Tensor  # float32 or wider: each token's sum of halting probabilities so far
    running: torch.Tensor  # bool: tokens that have not halted

    def select(self, index: torch.Tensor) -> "HaltingState":
        """The state of the packed tokens with these indices."""
        return HaltingState(self.cumulative[index], self.running[index])


class Halting(nn.Module):
    """Adaptive computation time per token, from the last channel of the token itself.

    Before each step a running token adds p = sigmoid(logit + bias) to its sum. Once the sum is
    above the threshold, the token halts with this step, and the weight of the step's output is
    1 minus the sum before it. Until then the weight is p. There is no halting network: the paper
    calls this "piggybacked".

    Arguments
    ---------
    threshold : float
        In (0, 1].
    bias : float
        Added to the logit. 0 as the authors; negative for deeper recurrence.
    close_remainder : bool
        True: at the last step allowed, the weight of every running token is 1 minus its sum
        before it, so that each token's weights sum to 1. False reproduces the authors, where
        tokens that run to the end keep a smaller sum.

    Example
    -------
    >>> halting = Halting(threshold=0.9)
    >>> state = halting.start(torch.tensor([[True, True]]))
    >>> weights, state = halting(torch.tensor([[0.0, 5.0]]), state, last=False)
    >>> weights.tolist(), state.running.tolist()
    ([[0.5, 1.0]], [[True, False]])
    """

    def __init__(
        self, threshold: float = 0.9, bias: float = 0.0, close_remainder: bool = True
    ):
        super().__init__()
        check_options(
            halting_threshold=threshold, halting_bias=bias, close_remainder=close_remainder
        )
        self.threshold = threshold
        self.bias = bias
        self.close_remainder = close_remainder

    def start(self, valid: torch.Tensor, dtype: torch.dtype = torch.float32) -> HaltingState:
        """The state before the first step. `valid` is True on tokens and False on padding."""
        dtype = torch.promote_types(dtype, torch.float32)
        return HaltingState(torch.zeros(valid.shape, dtype=dtype, device=valid.device), valid)

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """The halting logits [...] of tokens [..., N]: the last channel."""
        return tokens[..., -1]

    def forward(
        self, logits: torch.Tensor, state: HaltingState, last: bool
    ) -> tuple[torch.Tensor, HaltingState]:
        """Decide which tokens halt with the coming step.

        Arguments
        ---------
        logits : torch.Tensor
            [B, L] or [n]: the tokens' halting logits before the step.
        state : HaltingState
            The state before the step.
        last : bool
            True if no further step is allowed.

        Returns
        -------
        weights : torch.Tensor
            [B, L] or [n]: the weight of the step's output; 0 for tokens that had halted before.
        state : HaltingState
            The state after the step. Its `running` tokens go on to the next one, if there is one.
        """
        probability = torch.sigmoid(logits.to(state.cumulative.dtype) + self.bias)
        reached = state.cumulative + probability
        halts = reached > self.threshold
        closes = torch.ones_like(halts) if last and self.close_remainder else halts
        weights = torch.where(closes, 1 - state.cumulative, probability)
        weights = weights.masked_fill(~state.running, 0)
        return weights, HaltingState(reached, state.running & ~halts)
