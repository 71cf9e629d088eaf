"""Computing by blocks of rows, for inference on a CPU.

Functions of single rows are computed for a few thousand rows at a time. Intermediate results then
stay in the caches. They also stay below 32 MB: the C library takes larger ones from the system
anew each time, page by page.
"""

from collections.abc import Callable

import torch

ROWS_AT_A_TIME = 2048
# Of sequences that attend: about five chunks of the paper's size
NUMBERS_AT_A_TIME = 2**20


def row_blocks(x: torch.Tensor, dim: int = 0, at_a_time: int | None = None) -> list[slice]:
    """Slices of the rows of a tensor, which `dim` counts.

    With gradients there is one slice of all rows, since the graph keeps all results anyway. On a
    GPU there is one too.

    Example
    -------
    >>> x = torch.randn(5000, 2)
    >>> with torch.no_grad():
    ...     len(row_blocks(x)), sum(len(x[block]) for block in row_blocks(x))
    (3, 5000)
    >>> len(row_blocks(x))
    1
    """
    count, at_a_time = x.shape[dim], at_a_time or ROWS_AT_A_TIME
    if torch.is_grad_enabled() or x.device.type != "cpu" or count <= at_a_time:
        return [slice(0, count)]
    return [slice(first, first + at_a_time) for first in range(0, count, at_a_time)]


def sequence_blocks(sequences: torch.Tensor, width: int) -> list[slice]:
    """Slices of sequences [n, T, ...] with `width` numbers at each of their T places."""
    numbers = sequences.shape[1] * width
    return row_blocks(sequences, at_a_time=max(1, NUMBERS_AT_A_TIME // numbers))


class Buffers:
    """Memory for the results of a step, which all steps of a recurrence use in turn.

    Example
    -------
    >>> buffers, x = Buffers(), torch.ones(4, 2)
    >>> first = buffers.take("a", x, 6)
    >>> first.shape, buffers.take("a", x, 5).data_ptr() == first.data_ptr()
    (torch.Size([6, 2]), True)
    """

    def __init__(self):
        self._kept = {}

    def take(self, name: str, like: torch.Tensor, rows: int) -> torch.Tensor:
        """An uninitialised [rows, ...] like a tensor. It overwrites the last one of that name."""
        kept, shape = self._kept.get(name), like.shape[1:]
        fits = kept is not None and kept.dtype == like.dtype and kept.shape[1:] == shape
        if not fits or len(kept) < rows:
            kept = self._kept[name] = like.new_empty(rows, *shape)
        return kept[:rows]


def by_rows(
    function: Callable, *inputs: torch.Tensor, dim: int = 0, make: Callable | None = None
) -> torch.Tensor:
    """Compute a function of rows in blocks of rows.

    Arguments
    ---------
    function : callable
        From tensors to one, each row of which depends on the same row of the inputs alone.
    inputs : torch.Tensor
        With the same number n of rows.
    dim : int
        The axis that counts rows.
    make : callable, optional
        From the first block's result and n to the tensor that takes all results.

    Example
    -------
    >>> linear, x = torch.nn.Linear(3, 4), torch.randn(5000, 3)
    >>> with torch.no_grad():
    ...     result = by_rows(linear, x)
    >>> bool(torch.allclose(result, linear(x)))
    True
    """
    blocks = [(slice(None),) * dim + (block,) for block in row_blocks(inputs[0], dim)]
    result = function(*(x[blocks[0]] for x in inputs))
    if len(blocks) == 1:
        return result
    count = inputs[0].shape[dim]
    if make is None:
        whole = result.new_empty(*result.shape[:dim], count, *result.shape[dim + 1:])
    else:
        whole = make(result, count)
    whole[blocks[0]] = result
    for block in blocks[1:]:
        whole[block] = function(*(x[block] for x in inputs))
    return whole
