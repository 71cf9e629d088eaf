"""Chunks of the running tokens alone: hard pruning that computes nothing for a halted token.

The running tokens of all items are rows [n, N], item by item and in order of time. The tokens of
a chunk then lie side by side, since a chunk is neighbouring blocks of P tokens.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from papez_lobes.framing import OverlappingChunks

# Chunks of similar length are attended together, padded to the longest of them. Another group is
# made where it saves this many rows of padding, or of masks.
ROWS_WORTH_A_GROUP = 512


@dataclass
class ChunkGroup:
    """Chunks of similar length, A of them of at most W tokens, which are attended together."""

    # [A, M + W]: for each place of a chunk, its row in what `PackedFraming.concatenate` gives
    source_rows: torch.Tensor
    # [A, M + W]: the place of each row in a full chunk of M + K, which decides its position code.
    # None where all chunks are full.
    places: torch.Tensor | None
    # [A, 1, 1, M + W], bool: False on what pads a chunk. None where nothing does.
    mask: torch.Tensor | None

    def gather(self, projected: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rows [.., D] and position code [M + K, D] to chunks [A, M + W, D]."""
        if self.places is not None:
            positions = take_rows(positions, self.places)
        return take_rows(projected, self.source_rows) + positions


class PackedFraming:
    """Chunks of the running tokens; see `papez_lobes.framing.DenseFraming` for the interface.

    Tokens are rows [n, N] here. The chunks of a token, and its places in them, are those of the
    full sequence. Arguments are those of `DenseFraming`, where at least one token runs.

    Example
    -------
    >>> running = torch.tensor([[True, True, False, False, False, False, False, True, False]])
    >>> framing = PackedFraming(running, OverlappingChunks(4), num_slots=0)
    >>> framing.sizes.tolist()  # of the six chunks that nine tokens take
    [2, 2, 0, 1, 1, 0]
    >>> rows = framing.select(torch.arange(9.0).view(1, 9, 1))
    >>> groups = framing.gather(framing.concatenate(rows, torch.zeros(1, 0, 1)), torch.zeros(4, 1))
    >>> tokens, _ = framing.scatter([chunks for chunks, mask in groups])
    >>> tokens.flatten().tolist()
    [0.0, 1.0, 7.0]
    """

    def __init__(self, running: torch.Tensor, chunks: OverlappingChunks, num_slots: int):
        self.shape, self.chunks, self.num_slots = tuple(running.shape), chunks, num_slots
        batch, length = self.shape
        self.num_chunks = chunks.count(length)  # of each item
        self.token_index = running.flatten().nonzero().squeeze(1)  # [n]: item * L + time
        item, time = self.token_index // length, self.token_index % length
        # Chunk s of an item is its blocks s - 1 and s. Each item has one more block than its tokens
        # take. That block is empty, so that a sum of neighbouring blocks never mixes two items.
        block = item * self.num_chunks + time // chunks.hop
        block_sizes = torch.bincount(block, minlength=batch * self.num_chunks)
        self.sizes = block_sizes.clone()  # running tokens in each chunk of all items
        for earlier in range(1, chunks.copies):
            self.sizes[earlier:] += block_sizes[:-earlier]
        self.first = block_sizes.cumsum(0) - self.sizes  # row of each chunk's first token

        # All groups together are rows too, `start` of each chunk among them.
        self.groups, start, total = [], torch.zeros_like(self.sizes), 0
        for group, width in self._group():
            steps = torch.arange(len(group), device=time.device)
            start[group] = total + steps * (num_slots + width)
            total += len(group) * (num_slots + width)
            self.groups.append(self._indices(group, width, time))
        # Where in them each copy of a token is, ...
        order = torch.arange(len(time), device=time.device)
        row = start + num_slots - self.first
        self.copy_rows = [row[block + later] + order for later in range(chunks.copies)]
        # ... and each chunk's copy of the memory slots [chunks, M].
        filled = self.sizes.nonzero().squeeze(1)
        slots = torch.arange(num_slots, device=time.device)
        self.slot_copies = start[filled].unsqueeze(1) + slots
        self.slot_items = filled // self.num_chunks

    def _group(self):
        """Chunks with running tokens, at least one, grouped by length: (chunks, length) of each."""
        order = self.sizes.argsort(descending=True, stable=True)
        order = order[:int((self.sizes > 0).sum())]
        sizes, begin, groups = self.sizes[order].tolist(), 0, []
        for index, size in enumerate(sizes):
            saved = (sizes[begin] - size) * (len(sizes) - index)  # rows of padding
            full_before = index > 0 and sizes[index - 1] == self.chunks.size
            if full_before and size < self.chunks.size:
                saved += index * size  # rows of masks: full chunks by themselves need none
            if saved > ROWS_WORTH_A_GROUP:
                groups.append((order[begin:index], sizes[begin]))
                begin = index
        return [*groups, (order[begin:], sizes[begin])]

    def _indices(self, group, width, time):
        """The `ChunkGroup` of chunks, longest first, that are padded to one width."""
        sizes, first = self.sizes[group].unsqueeze(1), self.first[group].unsqueeze(1)
        shortest = int(sizes[-1])
        steps = torch.arange(width, device=time.device)
        slots = torch.arange(self.num_slots, device=time.device)
        # A chunk is padded with its own last token: another item's might be NaN, which no weight
        # of 0 in the attention would keep out.
        rows = first + torch.minimum(steps, sizes - 1)
        places = mask = None
        if shortest < self.chunks.size:
            blocks_before = self.chunks.copies - 1
            begin = (group % self.num_chunks - blocks_before).unsqueeze(1) * self.chunks.hop
            places = self.num_slots + time[rows] - begin
            places = torch.cat([slots.expand(len(group), -1), places], dim=1)
        if shortest < width:
            mask = F.pad(steps < sizes, (self.num_slots, 0), value=True)[:, None, None]
        item = group // self.num_chunks
        slot_rows = len(time) + item.unsqueeze(1) * self.num_slots + slots
        return ChunkGroup(torch.cat([slot_rows, rows], dim=1), places, mask)

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """Rows [n, ...] of the tokens that take part, of all tokens' [B, L, ...]."""
        x = x.flatten(0, 1)
        return x if len(x) == len(self.token_index) else x.index_select(0, self.token_index)

    def concatenate(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Rows of tokens, then those of all items' memory, [n + B * M, N]."""
        return torch.cat([tokens, memory.flatten(0, 1)])

    def gather(self, projected: torch.Tensor, positions: torch.Tensor) -> list:
        """Like `DenseFraming.gather`: chunks and mask of each group."""
        return [(group.gather(projected, positions), group.mask) for group in self.groups]

    def scatter(self, attended: list) -> tuple[torch.Tensor, torch.Tensor]:
        """Like `DenseFraming.scatter`, to tokens [n, N] and memory [B, M, N]."""
        rows = torch.cat([chunks.flatten(0, 1) for chunks in attended])
        return self.mean_of_copies(rows, self.copy_rows), self.mean_memory(rows)

    @staticmethod
    def mean_of_copies(rows: torch.Tensor, copies: list) -> torch.Tensor:
        """The mean [n, N] of some tokens' copies, given the rows [n] of each copy."""
        total = rows.index_select(0, copies[0])
        for copy in copies[1:]:
            total = total + rows.index_select(0, copy)
        return total / len(copies)

    def mean_memory(self, rows: torch.Tensor) -> torch.Tensor:
        """The mean of the memory over each item's chunks, [B, M, N]; like `merge_memory`."""
        written = take_rows(rows, self.slot_copies)
        memory = rows.new_zeros(self.shape[0], self.num_slots, rows.shape[1])
        memory = memory.index_add(0, self.slot_items, written)
        count = torch.bincount(self.slot_items, minlength=self.shape[0]).clamp(min=1)
        return memory / count[:, None, None]

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Add values x of the tokens that take part to a total [B * L, ...] of all tokens."""
        return total.index_add_(0, self.token_index, x)

    def prune(self, tokens: torch.Tensor, state) -> tuple:
        """The next step's framing, tokens and halting state: halted tokens leave."""
        if state.running.all():
            return self, tokens, state
        stay = state.running.nonzero().squeeze(1)
        running = torch.zeros(self.shape, dtype=torch.bool, device=tokens.device)
        running.view(-1)[self.token_index[stay]] = True
        framing = type(self)(running, self.chunks, self.num_slots)
        return framing, tokens.index_select(0, stay), state.select(stay)


def take_rows(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """table[index] of a matrix. `index_select` copies whole rows, which is several times faster."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)
