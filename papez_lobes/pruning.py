"""Pruning: what becomes of a token that has halted (paper, Sec. 2.3).

soft : it is still updated and still attended, but adds nothing more to the result (the authors).
hard : it leaves. From the next step on it is no query and no key, and no memory is written from
    it (the paper).

Hard pruning has two executions that agree. *Masked* keeps all tokens and masks keys, so that
shapes never change. *Packed* computes the running tokens and nothing else.
"""

import torch

from papez_lobes.authors_padding import AuthorsFraming
from papez_lobes.framing import DenseFraming, MaskedFraming
from papez_lobes.packing import PackedFraming

POLICIES = ("soft", "hard")
EXECUTIONS = ("auto", "packed", "masked")


class Pruning:
    """The choice of policy and execution.

    Arguments
    ---------
    policy : str
        'soft' or 'hard'.
    execution : str
        Of `hard`: 'packed', 'masked' or 'auto', which is packed on a CPU and masked elsewhere. On
        a GPU constant shapes save more time than the pruned work would.
    attend_padding : bool
        See `papez_lobes.block.RecurrentBlock`.

    Example
    -------
    >>> Pruning("hrad")
    Traceback (most recent call last):
    ValueError: pruning is 'hrad': it must be one of soft, hard
    """

    def __init__(self, policy: str, execution: str = "auto", attend_padding: bool = False):
        if policy not in POLICIES:
            raise ValueError(f"pruning is {policy!r}: it must be one of {', '.join(POLICIES)}")
        if execution not in EXECUTIONS:
            raise ValueError(
                f"execution is {execution!r}: it must be one of {', '.join(EXECUTIONS)}"
            )
        if policy == "hard" and attend_padding:
            raise ValueError(
                "pruning is 'hard' and attend_padding is True: padding never halts, so it can "
                "only be attended under 'soft' pruning; set attend_padding: False"
            )
        self.policy = policy
        self.execution = execution
        self.attend_padding = attend_padding

    def start(self, valid: torch.Tensor, chunks, num_slots: int) -> DenseFraming | PackedFraming:
        """The framing of the first step.

        Arguments
        ---------
        valid : torch.Tensor
            [B, L], bool: True on tokens, False on padding.
        chunks : papez_lobes.framing.OverlappingChunks
            How tokens are cut into chunks.
        num_slots : int
            Memory slots M.
        """
        packed = self.execution == "packed" or (
            self.execution == "auto" and valid.device.type == "cpu"
        )
        if self.policy == "soft":
            framing = AuthorsFraming if self.attend_padding else DenseFraming
        else:
            framing = PackedFraming if packed else MaskedFraming
        return framing(valid, chunks, num_slots)
