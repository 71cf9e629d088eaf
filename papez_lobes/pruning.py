"""What becomes of a token that has halted, and how a step is executed.

soft : it is still updated and still attended; it only stops adding to the result (the authors).
hard : it leaves: no query, no key, and it feeds no memory from the next step on (the paper).

`hard` has two executions that agree: *masked*, on dense tensors with masks of keys, whose shapes
never change, and *packed*, which computes the running tokens and nothing else.
"""

import torch

from papez_lobes.framing import DenseFraming
from papez_lobes.packing import PackedFraming
from papez_lobes.rows import Buffers, row_blocks

POLICIES = ("soft", "hard")
EXECUTIONS = ("auto", "packed", "masked")


class DenseRun:
    """The tokens of a recurrence, dense, and what comes of them.

    `tokens` [B, L, N] and `framing` are the next step's; `output` [B, L, N], `depth` and
    `expected_depth` [B, L] and `macs` are the results so far.

    Arguments
    ---------
    tokens : torch.Tensor
        [B, L, N], the first state.
    memory : torch.Tensor
        [B, M, N].
    counts : torch.Tensor or None
        [B], valid tokens; None where all L are.
    valid : torch.Tensor
        [B, L], bool.
    block : papez_lobes.block.RecurrentBlock
        Whose steps it will see.
    hard : bool
        Whether halted tokens leave.
    """

    def __init__(self, tokens, memory, counts, valid, block, hard):
        self.tokens, self.block, self.hard = tokens, block, hard
        if block.attend_padding:
            self.framing = DenseFraming.of_padding(counts, valid.shape, block.chunk_tokens)
        else:
            self._frame(valid)
        wide = torch.promote_types(tokens.dtype, torch.float32)  # sums are never in half precision
        self.output = torch.zeros_like(tokens, dtype=wide)
        self.depth = torch.zeros_like(valid, dtype=torch.long)
        self.expected_depth = torch.zeros_like(valid, dtype=wide)
        self.running = valid
        self.slots, self.macs = memory.shape[1], 0

    def add(self, tokens, weights, step):
        """Take a step's result: new tokens, and the weight [B, L] of each in the output."""
        rows = tokens.shape[0] * (tokens.shape[1] + self.slots)
        self.macs += self.block.macs(rows, self.framing.pairs(self.slots))
        self.depth = self.depth + self.running
        self.expected_depth = self.expected_depth + weights * (step + 1)
        self.output = self.output + weights.unsqueeze(-1) * tokens
        self.tokens = tokens

    def leave(self, state):
        """Let the halted tokens go; returns the halting state of those that stay."""
        self.running = state.running
        if self.hard:
            self._frame(state.running)
        return state

    def _frame(self, alive):
        self.framing = DenseFraming.of_tokens(alive, self.block.chunk_tokens, self.block.copies)


class PackedRun:
    """The same, packed: `tokens` are the rows [n, N] of the tokens that run."""

    def __init__(self, tokens, memory, counts, valid, block):
        self.shape, self.block = tuple(valid.shape), block
        self.batch, self.slots = memory.shape[:2]
        everything = tokens.flatten(0, 1)
        self.rows = valid.flatten().nonzero().squeeze(1)
        self.tokens = everything if counts is None else everything[self.rows]
        wide = torch.promote_types(tokens.dtype, torch.float32)
        self._output = torch.zeros_like(everything, dtype=wide)
        self._depth = torch.zeros(len(everything), dtype=torch.long, device=tokens.device)
        self._expected = torch.zeros(len(everything), dtype=wide, device=tokens.device)
        self.running = torch.ones_like(self.rows, dtype=torch.bool)
        self.macs, self.buffers = 0, Buffers()
        self._frame()

    @property
    def output(self):
        """[B, L, N]."""
        return self._output.unflatten(0, self.shape)

    @property
    def depth(self):
        """[B, L]."""
        return self._depth.unflatten(0, self.shape)

    @property
    def expected_depth(self):
        """[B, L]."""
        return self._expected.unflatten(0, self.shape)

    def add(self, tokens, weights, step):
        """As `DenseRun.add`, of rows."""
        rows = len(tokens) + self.batch * self.slots
        self.macs += self.block.macs(rows, self.framing.pairs(self.slots))
        self._depth[self.rows] += 1
        self._expected = self._expected.index_add_(0, self.rows, weights * (step + 1))
        for block in row_blocks(tokens):
            weighted = weights[block].unsqueeze(-1) * tokens[block]
            self._output = self._output.index_add_(0, self.rows[block], weighted)
        self.tokens = tokens

    def leave(self, state):
        """As `DenseRun.leave`."""
        if bool(state.running.all()):
            return state
        stay = state.running.nonzero().squeeze(1)
        self.rows, self.tokens = self.rows[stay], self.tokens[stay]
        self._frame()
        return type(state)(state.cumulative[stay], state.running[stay])

    def _frame(self):
        self.framing = PackedFraming(
            self.rows, self.shape, self.block.chunk_tokens, self.slots, self.block.copies,
            self.buffers,
        )


class Pruning:
    """Which tokens a step computes, and how.

    Arguments
    ---------
    policy : str
        'soft' or 'hard'.
    execution : str
        Of `hard`: 'packed', 'masked', or 'auto': packed on a CPU, masked elsewhere, where shapes
        that never change are worth more than the work they waste.
    attend_padding : bool
        As the block's.

    Example
    -------
    >>> Pruning("hrad")
    Traceback (most recent call last):
    ValueError: pruning is 'hrad': it must be one of soft, hard
    """

    def __init__(self, policy, execution="auto", attend_padding=False):
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
        self.hard = policy == "hard"
        self.execution = execution

    def start(self, tokens, memory, counts, valid, block):
        """Begin a recurrence: a `DenseRun` or a `PackedRun`; arguments as theirs."""
        packed = self.execution == "packed" or (
            self.execution == "auto" and tokens.device.type == "cpu"
        )
        if self.hard and packed:
            return PackedRun(tokens, memory, counts, valid, block)
        return DenseRun(tokens, memory, counts, valid, block, self.hard)
