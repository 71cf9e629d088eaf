"""Rows in blocks: in inference on a CPU, what is computed for each row alone is computed for a few
thousand rows at a time.

Intermediate results then stay in the caches, and in memory that the process already has: what is
larger than 32 MB the C library takes from the system, page by page, each time anew.
"""

import torch

ROWS_AT_A_TIME = 2048
# Of the sequences that attend: those of some five chunks of the paper's size, or of more that are
# smaller
NUMBERS_AT_A_TIME = 2**20


def row_blocks(x, dim=0, at_a_time=None):
    """Slices of a tensor's rows, those of an axis: one of all where there are gradients, whose
    graph would keep everything anyway, and on a GPU, which has no use for small blocks.

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


def sequence_blocks(sequences, width):
    """The same of sequences [n, T, ...] whose every place holds `width` numbers.

    Example
    -------
    >>> with torch.no_grad():
    ...     len(sequence_blocks(torch.zeros(12, 260), 768))
    3
    """
    numbers = sequences.shape[1] * width
    return row_blocks(sequences, at_a_time=max(1, NUMBERS_AT_A_TIME // numbers))


class Buffers:
    """Memory for results that are needed for a step only, which all steps use in turn.

    Example
    -------
    >>> buffers, x = Buffers(), torch.ones(4, 2)
    >>> first = buffers.take("a", x, 6)
    >>> first.shape, buffers.take("a", x, 5).data_ptr() == first.data_ptr()
    (torch.Size([6, 2]), True)
    """

    def __init__(self):
        self._kept = {}

    def take(self, name, like, rows):
        """An uninitialised [rows, ...], for the rest as `like`; earlier ones of that name are
        overwritten."""
        kept, shape = self._kept.get(name), like.shape[1:]
        fits = kept is not None and kept.dtype == like.dtype and kept.shape[1:] == shape
        if not fits or len(kept) < rows:
            kept = self._kept[name] = like.new_empty(rows, *shape)
        return kept[:rows]


def by_rows(function, *inputs, dim=0, whole=None):
    """function(*inputs), a function of rows, computed in blocks of rows.

    Arguments
    ---------
    function : callable
        Of tensors to one, each row of which depends on their same row alone.
    inputs : torch.Tensor
        With the same number n of rows.
    dim : int
        The axis that counts rows.
    whole : callable, optional
        Makes, of a block's result and n, what the results of all blocks are written to.

    Returns
    -------
    torch.Tensor

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
    if whole is None:
        whole = result.new_empty(*result.shape[:dim], count, *result.shape[dim + 1:])
    else:
        whole = whole(result, count)
    whole[blocks[0]] = result
    for block in blocks[1:]:
        whole[block] = function(*(x[block] for x in inputs))
    return whole
