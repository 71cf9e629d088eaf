"""What becomes of a token that has halted: which tokens the next step attends.

soft : it is still updated and still attended; it only stops adding to the result (the authors).
hard : it leaves: no query, no key, and it feeds no memory from the next step on (the paper).

`hard` is executed masked: on dense tensors, with masks of keys. The packed execution, which
gathers the running tokens and computes nothing else, has its place here.
"""

from papez_lobes.framing import Framing


class SoftPruning:
    """Halted tokens stay: every step has the framing of the first.

    Arguments
    ---------
    attend_padding : bool
        Whether padding is attended and counted, as by the authors.
    """

    def __init__(self, attend_padding=False):
        self.attend_padding = attend_padding

    def first(self, counts, valid, chunk_tokens):
        """The first step's framing: counts [B] or None (no padding), valid [B, L]."""
        if self.attend_padding:
            return Framing.of_padding(counts, valid.shape[1], chunk_tokens)
        return Framing.of_tokens(valid, chunk_tokens)

    def following(self, framing, running):
        """The next step's framing, from this step's and the tokens that go on running [B, L]."""
        return framing


class HardPruning:
    """Halted tokens leave. Chunk membership and positions stay those of the full sequence."""

    def __init__(self, attend_padding=False):
        if attend_padding:
            raise ValueError(
                "pruning is 'hard' and attend_padding is True: padding never halts, so it can "
                "only be attended under 'soft' pruning; set attend_padding: False"
            )

    def first(self, counts, valid, chunk_tokens):
        """As `SoftPruning.first`."""
        return Framing.of_tokens(valid, chunk_tokens)

    def following(self, framing, running):
        """As `SoftPruning.following`."""
        return Framing.of_tokens(running, framing.chunk_tokens)


POLICIES = {"soft": SoftPruning, "hard": HardPruning}


def build_pruning(name, attend_padding=False):
    """The policy of that name: 'soft' or 'hard'.

    Example
    -------
    >>> build_pruning("hrad")
    Traceback (most recent call last):
    ValueError: pruning is 'hrad': it must be one of soft, hard
    """
    if name not in POLICIES:
        raise ValueError(f"pruning is {name!r}: it must be one of {', '.join(POLICIES)}")
    return POLICIES[name](attend_padding)
