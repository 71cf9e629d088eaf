"""Pruning: what becomes of a token that has halted (paper, Sec. 2.3).

soft : it is still updated and still attended, but adds nothing more to the result (the authors).
hard : it leaves. From the next step on it is no query and no key, and no memory is written from
    it (the paper).

Hard pruning has two executions that agree. *Masked* keeps all tokens and masks keys, so that
shapes never change. *Packed* computes only the running tokens. *Auto* is packed on a CPU and masked
elsewhere, since constant shapes save more time on a GPU than the pruned work would.
"""

import torch

from papez_lobes.authors_padding import AuthorsFraming
from papez_lobes.config.checks import check_options
from papez_lobes.framing import DenseFraming, MaskedFraming
from papez_lobes.packing import PackedFraming


def check_pruning(pruning: str, execution: str, attend_padding: bool) -> None:
    """Raise ValueError if a policy or execution is unknown, or does not go with the padding.

    Example
    -------
    >>> check_pruning("hrad", "auto", False)
    Traceback (most recent call last):
    ValueError: pruning is 'hrad': it must be one of soft, hard
    """
    check_options(pruning=pruning, execution=execution)
    if pruning == "hard" and attend_padding:
        raise ValueError(
            "pruning is 'hard' and attend_padding is True: padding never halts, so it can only be "
            "attended under 'soft' pruning; set attend_padding: False"
        )


def choose_framing(
    pruning: str, execution: str, attend_padding: bool, device: torch.device
) -> type[DenseFraming] | type[PackedFraming]:
    """The class of framings for a policy and an execution."""
    if pruning == "soft":
        return AuthorsFraming if attend_padding else DenseFraming
    packed = execution == "packed" or (execution == "auto" and device.type == "cpu")
    return PackedFraming if packed else MaskedFraming
