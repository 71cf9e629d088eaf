"""Which token stops when: the state of halting and one pure update (paper, Sec. 2.3)."""

from dataclasses import dataclass

import torch
from torch import nn

from papez_lobes.config.checks import check_flag, check_number, check_whole


@dataclass
class HaltingState:
    """What halting knows between two steps.

    Arguments
    ---------
    cumulative : torch.Tensor
        [B, L], float32 or wider: the probabilities that a token has added up so far.
    running : torch.Tensor
        [B, L], bool: tokens that have not halted (padding never runs).
    """

    cumulative: torch.Tensor
    running: torch.Tensor


class Halting(nn.Module):
    """Adaptive computation time per token, from a channel of the token itself.

    Before a step a running token adds p = sigmoid(logit + bias) to its sum; once the sum is above
    the threshold it halts with this step, whose output weighs what was missing to 1; otherwise
    the output weighs p. No network of its own ("piggybacked").

    Arguments
    ---------
    threshold : float
        In (0, 1].
    bias : float
        Added to the logit; 0 as the authors, negative for deeper recurrence.
    close_remainder : bool
        At the last step allowed, whatever runs weighs what is missing to 1, so that each token's
        weights sum to 1. False reproduces the authors, who lose that weight.

    Example
    -------
    >>> halting = Halting(threshold=0.9)
    >>> state = halting.start(torch.tensor([[True, True]]))
    >>> weights, state = halting(torch.tensor([[0.0, 5.0]]), state, last=False)
    >>> weights.tolist(), state.running.tolist()
    ([[0.5, 1.0]], [[True, False]])
    """

    def __init__(self, threshold=0.9, bias=0.0, close_remainder=True):
        super().__init__()
        check_number("halting_threshold", threshold)
        check_number("halting_bias", bias)
        check_flag("close_remainder", close_remainder)
        if not 0 < threshold <= 1:
            raise ValueError(f"halting_threshold is {threshold}: it must be in (0, 1]")
        self.threshold = threshold
        self.bias = bias
        self.close_remainder = close_remainder

    def start(self, valid, dtype=torch.float32):
        """The state before the first step; valid [B, L] is True on tokens, False on padding."""
        dtype = torch.promote_types(dtype, torch.float32)
        return HaltingState(torch.zeros(valid.shape, dtype=dtype, device=valid.device), valid)

    def logits(self, tokens):
        """The halting logits [...] of tokens [..., N]: their last channel."""
        return tokens[..., -1]

    def forward(self, logits, state, last):
        """One update.

        Arguments
        ---------
        logits : torch.Tensor
            [B, L], the tokens' halting logits before the step.
        state : HaltingState
            Of the step before.
        last : bool
            Whether no further step is allowed.

        Returns
        -------
        torch.Tensor
            [B, L]: the weight of the step's output; 0 for tokens that had halted.
        HaltingState
            Whose `running` tokens go on to the next step.
        """
        probability = torch.sigmoid(logits.to(state.cumulative.dtype) + self.bias)
        reached = state.cumulative + probability
        halts = reached > self.threshold
        closes = torch.ones_like(halts) if last and self.close_remainder else halts
        weights = torch.where(closes, 1 - state.cumulative, probability)
        weights = weights.masked_fill(~state.running, 0)
        return weights, HaltingState(reached, state.running & ~halts)


class NetworkHalting(Halting):
    """Halting from a small network of the token instead of its last channel (an ablation).

    Arguments
    ---------
    dim, hidden_dim : int
        Channels N of a token, and of the hidden layer.
    threshold, bias, close_remainder
        See `Halting`.

    Example
    -------
    >>> NetworkHalting(8, 4).logits(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(self, dim, hidden_dim, threshold=0.9, bias=0.0, close_remainder=True):
        super().__init__(threshold, bias, close_remainder)
        check_whole("halting_dim", hidden_dim)
        self.network = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1)
        )

    def logits(self, tokens):
        """The halting logits [...] of tokens [..., N]."""
        return self.network(tokens).squeeze(-1)


class NoHalting(Halting):
    """Every token runs every step that is allowed, and the last state is the result (an ablation).

    Example
    -------
    >>> halting = NoHalting()
    >>> state = halting.start(torch.tensor([[True, False]]))
    >>> [halting(torch.tensor([[9.0, 9.0]]), state, last)[0].tolist() for last in (False, True)]
    [[[0.0, 0.0]], [[1.0, 0.0]]]
    """

    def forward(self, logits, state, last):
        """As `Halting.forward`; the logits have no say."""
        weights = state.running.to(state.cumulative.dtype) * float(last)
        return weights, state
