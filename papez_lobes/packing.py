"""Running tokens alone, as chunks: nothing is gathered, projected or attended for a halted one.

Rows are the running tokens of all items, item by item and in order of time. The tokens of a chunk
then lie side by side, since it is two neighbouring blocks of P = K / 2 tokens (or, where each
token has one copy, a block of P = K).
"""

from functools import partial

import torch

from papez_lobes.rows import Buffers, by_rows, sequence_blocks

# Sequences of like length are attended in one call, padded to the longest of them. A further call
# is worth it where it saves that many rows of padding, or of masks.
ROWS_WORTH_A_CALL = 512


class PackedFraming:
    """One step's view of the running tokens as chunks; see `papez_lobes.framing.DenseFraming`.

    Chunk membership and positions are those of the full sequence.

    Arguments
    ---------
    rows : torch.Tensor
        [n], long, ascending: item * L + position of each running token.
    shape : (int, int)
        B and L.
    chunk_tokens : int
        K.
    num_slots : int
        M.
    copies : int
        Chunks that a token is in: 2, or 1 where they do not overlap.
    buffers : papez_lobes.rows.Buffers, optional
        Of the steps of a recurrence.

    Example
    -------
    >>> framing = PackedFraming(torch.tensor([0, 1, 7]), (1, 9), chunk_tokens=4, num_slots=0)
    >>> framing.sizes.tolist()  # of the six chunks that nine tokens take
    [2, 2, 0, 1, 1, 0]
    >>> tokens = torch.arange(3.0).view(3, 1)
    >>> spread = framing.spread(tokens, torch.zeros(1, 0, 1), torch.zeros(4, 1), lambda x: x)
    >>> merged, _ = framing.merge((sequence for sequence, _ in spread), 0)
    >>> merged.flatten().tolist()
    [0.0, 1.0, 2.0]
    """

    def __init__(self, rows, shape, chunk_tokens, num_slots, copies=2, buffers=None):
        self.buffers = buffers or Buffers()
        batch, length = shape
        hop = chunk_tokens // copies
        self.batch, self.chunk_tokens, self.copies = batch, chunk_tokens, copies
        self.chunks = (length + hop - 1) // hop + copies - 1  # of each item
        position = rows % length
        # Block s of an item is the second half of its chunk s and the first half of chunk s + 1.
        # An item has one block less than chunks, so the block before its first chunk is empty.
        # With one copy, block s is chunk s.
        block = rows.div(length, rounding_mode="floor") * self.chunks + position // hop
        counts = torch.bincount(block, minlength=batch * self.chunks)
        self.sizes = counts.clone()
        if copies == 2:
            self.sizes[1:] += counts[:-1]
        self.first = counts.cumsum(0) - self.sizes  # row of each chunk's first token
        order = self.sizes.argsort(descending=True, stable=True)
        order = order[: int((self.sizes > 0).sum())]
        self.calls, start = [], 0
        base = torch.zeros_like(self.sizes)  # place of each chunk among all rows attended
        for chosen, width in self._group(order):
            places = start + torch.arange(len(chosen), device=rows.device) * (num_slots + width)
            base[chosen] = places
            start += len(chosen) * (num_slots + width)
            self.calls.append(self._call(chosen, width, position, num_slots))
        self.active = order
        self.slot_places = base[order].unsqueeze(1) + torch.arange(num_slots, device=rows.device)
        own = num_slots + torch.arange(len(rows), device=rows.device)
        chunks_of_token = (block, block + 1)[:copies]
        self.places = [base[chunk] + own - self.first[chunk] for chunk in chunks_of_token]

    def _group(self, order):
        """Chunks, longest first, in groups of like length: (chunks, length) of each."""
        sizes, begin, groups = self.sizes[order].tolist(), 0, []
        for index, size in enumerate(sizes):
            saved = (sizes[begin] - size) * (len(sizes) - index)
            if size < self.chunk_tokens == sizes[index - 1]:
                saved += index * size  # whole chunks by themselves need no mask
            if saved > ROWS_WORTH_A_CALL:
                groups.append((order[begin:index], sizes[begin]))
                begin = index
        return [*groups, (order[begin:], sizes[begin])]

    def _call(self, chosen, width, position, num_slots):
        """Rows of all that one call attends [A, M + W] (slots count on from the last token),
        their places in the position code [A, M + W], and the mask of keys. No places where all
        chunks are whole, and no mask where all are of one length."""
        tokens, shortest = len(position), int(self.sizes[chosen[-1]])
        steps = torch.arange(width, device=position.device)
        slots = steps.new_tensor(range(num_slots))
        first, sizes = self.first[chosen].unsqueeze(1), self.sizes[chosen].unsqueeze(1)
        # a chunk is padded with its own last token: no weight of 0 keeps another item's NaN out
        rows = first + torch.minimum(steps, sizes - 1)
        codes = mask = None
        if shortest < self.chunk_tokens:
            before = self.copies - 1  # blocks in front of the first token
            hop = self.chunk_tokens // self.copies
            begin = (chosen % self.chunks - before).unsqueeze(1) * hop
            # what pads a chunk may have any place: it is masked
            codes = (position[rows] - begin).clamp(0, self.chunk_tokens - 1)
            codes = torch.cat([slots.expand(len(chosen), -1), num_slots + codes], dim=1)
        if shortest < width:
            keys = steps < sizes
            mask = torch.cat([keys.new_ones(len(chosen), num_slots), keys], dim=1)[:, None, None]
        item = chosen.div(self.chunks, rounding_mode="floor").unsqueeze(1)
        return torch.cat([tokens + item * num_slots + slots, rows], dim=1), codes, mask

    def pairs(self, num_slots):
        """Query-key pairs that one step computes, padding included."""
        return sum(rows.shape[0] * rows.shape[1] ** 2 for rows, _, _ in self.calls)

    def spread(self, tokens, memory, positions, project):
        """As `DenseFraming.spread`, of rows [n, N]."""
        rows = torch.cat([tokens, memory.flatten(0, 1)])
        table = by_rows(project, rows, whole=partial(self.buffers.take, "projected"))
        for rows, codes, mask in self.calls:
            for own in sequence_blocks(rows, table.shape[1]):
                added = positions if codes is None else _rows_of(positions, codes[own])
                yield _add(_rows_of(table, rows[own]), added), None if mask is None else mask[own]

    def merge(self, attended, num_slots):
        """As `DenseFraming.merge`, to rows [n, N]."""
        flat = self._flat(attended)
        tokens = by_rows(lambda *places: self._mean(flat, places), *self.places)
        item = self.active.div(self.chunks, rounding_mode="floor")
        written = flat.new_zeros(self.batch, num_slots, flat.shape[1])
        written = written.index_add(0, item, _rows_of(flat, self.slot_places))
        counts = torch.bincount(item, minlength=self.batch).clamp(min=1)
        return tokens, written / counts[:, None, None]

    def _flat(self, attended):
        """All attended rows [.., N], one sequence after another."""
        if torch.is_grad_enabled():
            return torch.cat([sequence.flatten(0, 1) for sequence in attended])
        flat, count, total = None, 0, sum(call.numel() for call, _, _ in self.calls)
        for sequence in attended:
            rows = sequence.flatten(0, 1)
            if len(rows) == total:
                return rows
            if flat is None:
                flat = self.buffers.take("attended", rows, total)
            flat[count:count + len(rows)] = rows
            count += len(rows)
        return flat

    @staticmethod
    def _mean(flat, places):
        """Of the copies of tokens: rows [n, N]."""
        tokens = _rows_of(flat, places[0])
        return _add(tokens, _rows_of(flat, places[1])).mul_(0.5) if len(places) == 2 else tokens


def _rows_of(table, index):
    """table[index] of a matrix; `index_select` copies whole rows and is several times faster."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def _add(rows, others):
    """rows + others, in the memory of `rows`, which is a view, where no gradient is asked for:
    autograd pays for what is changed through a view with two copies of its gradient."""
    return rows + others if torch.is_grad_enabled() else rows.add_(others)
