"""A separator in a form that `torch.export` can trace, with its recurrence as one loop.

`torch.export` follows no Python loop whose end the data decides. Here the recurrence is
`torch.while_loop`, and each step gathers the running tokens by operators whose shapes the data
decides, so that the exported graph computes nothing for a token that has halted.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F

from papez_lobes.ablations import NoHalting, SeparateBlocks
from papez_lobes.authors_padding import AuthorsFraming, authors_count
from papez_lobes.block import ChunkAttention
from papez_lobes.errors import UserError
from papez_lobes.export import speechbrain_graphs
from papez_lobes.framing import OverlappingChunks
from papez_lobes.masknet import MaskNet
from papez_lobes.norms import EPS, StepLayerNorm, TimeNorm
from papez_lobes.packing import take_rows
from papez_lobes.recurrent import RecurrentTransformer
from papez_lobes.separator import Separator
from papez_lobes.spectral import SpectralDecoder, SpectralEncoder, SpectralMaskNet, num_bins


class GraphFraming:
    """Chunks of the running tokens of one item, in one group.

    It has the interface of `papez_lobes.packing.PackedFraming`, and its numbers. There is one
    group, padded to the longest chunk, as the number of groups must not depend on the data.

    Arguments
    ---------
    times : torch.Tensor
        [n], long, ascending: the places of the running tokens in the sequence, n >= 1.
    num_tokens : int
        Tokens L of the sequence.
    chunks : papez_lobes.framing.OverlappingChunks
        How tokens are cut into chunks.
    num_slots : int
        Memory slots M.

    Example
    -------
    >>> framing = GraphFraming(torch.tensor([0, 1, 7]), 9, OverlappingChunks(4), num_slots=0)
    >>> rows = framing.concatenate(torch.tensor([[0.0], [1.0], [7.0]]), torch.zeros(0, 1))
    >>> [(chunks, mask)] = framing.gather(rows, torch.zeros(4, 1))
    >>> chunks.squeeze(2).tolist()  # padded with the last token of each
    [[0.0, 1.0], [0.0, 1.0], [7.0, 7.0], [7.0, 7.0]]
    >>> framing.scatter([chunks])[0].flatten().tolist()
    [0.0, 1.0, 7.0]
    """

    def __init__(
        self, times: torch.Tensor, num_tokens: int, chunks: OverlappingChunks, num_slots: int
    ):
        self.num_slots = num_slots
        # Division of negative numbers rounds differently in ONNX: `chunks.count` has one.
        num_chunks = (num_tokens + chunks.hop - 1) // chunks.hop + chunks.copies - 1
        block = times // chunks.hop
        block_sizes = torch.zeros(num_chunks, dtype=torch.long)
        block_sizes = block_sizes.index_put((block,), torch.ones_like(block), accumulate=True)
        sizes = block_sizes  # running tokens in each chunk
        for earlier in range(1, chunks.copies):
            sizes = sizes + F.pad(block_sizes, (earlier, 0))[:num_chunks]
        first = block_sizes.cumsum(0) - sizes  # rank of each chunk's first token
        filled = (sizes > 0).nonzero().squeeze(1)  # [A]
        width = sizes.max().item()
        torch._check(width >= 1)
        torch._check(width <= chunks.size)

        slots = torch.arange(num_slots).unsqueeze(0).expand(filled.shape[0], -1)
        steps = torch.arange(width)
        held = take_rows(sizes, filled).unsqueeze(1)
        rank = take_rows(first, filled).unsqueeze(1) + torch.minimum(steps, held - 1)  # [A, W]
        begin = (filled - (chunks.copies - 1)).unsqueeze(1) * chunks.hop
        self.source_rows = torch.cat([slots, num_slots + rank], dim=1)  # [A, M + W]
        self.places = torch.cat([slots, num_slots + take_rows(times, rank) - begin], dim=1)
        self.mask = torch.cat([slots >= 0, steps < held], dim=1)[:, None, None]
        # where each copy of a token is among the rows of all chunks
        row = ((sizes > 0).long().cumsum(0) - 1) * (num_slots + width) + num_slots - first
        order = torch.arange(times.shape[0])
        self.copy_rows = [order + take_rows(row, block + later) for later in range(chunks.copies)]

    def concatenate(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Rows [M + n, N] of the memory slots [M, N], then of the tokens [n, N]."""
        return torch.cat([memory, tokens])

    def gather(self, projected: torch.Tensor, positions: torch.Tensor) -> list:
        """Like `PackedFraming.gather`, with one group."""
        chunks = take_rows(projected, self.source_rows) + take_rows(positions, self.places)
        return [(chunks, self.mask)]

    def scatter(self, attended: list) -> tuple[torch.Tensor, torch.Tensor]:
        """Like `PackedFraming.scatter`, with memory [M, N]."""
        [chunks] = attended
        rows = chunks.flatten(0, 1)
        tokens = sum(take_rows(rows, copy) for copy in self.copy_rows) / len(self.copy_rows)
        return tokens, chunks[:, :self.num_slots].mean(dim=0)


class GraphAuthorsFraming(AuthorsFraming):
    """`papez_lobes.authors_padding.AuthorsFraming` of one item: tokens [L, N], memory [M, N].

    Arguments
    ---------
    times, num_tokens, chunks, num_slots
        As `GraphFraming`. All tokens take part.
    """

    def __init__(self, times, num_tokens, chunks, num_slots):
        self.shape, self.chunks, self.num_slots = (1, num_tokens), chunks, num_slots
        self.key_mask = self.chunk_mask = self.token_mask = None
        self.num_chunks = authors_count(num_tokens, chunks.size)

    def concatenate(self, tokens, memory):
        """Like `DenseFraming.concatenate`."""
        return super().concatenate(tokens.unsqueeze(0), memory.unsqueeze(0))

    def scatter(self, attended):
        """Like `DenseFraming.scatter`."""
        tokens, memory = super().scatter(attended)
        return tokens.squeeze(0), memory.squeeze(0)


class GraphAttention(ChunkAttention):
    """`papez_lobes.block.ChunkAttention` by matrix products, whatever the number of chunks."""

    def attend(self, sequences, mask):
        """Like `ChunkAttention.attend`."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in sequences.chunk(3, dim=-1)
        )
        scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
        if mask is not None:  # added: runtimes take longer to choose between two values
            nothing = torch.zeros(mask.shape)
            scores = scores + nothing.masked_fill(~mask, -torch.inf)
        return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


class GraphTimeNorm(TimeNorm):
    """`papez_lobes.norms.TimeNorm` whose sums keep their digits in float32.

    Runtimes may add up the tokens of a long recording one after the other, where each addition is
    rounded to the digits of a large sum. So each mean is taken twice: the second time of what is
    left when the first is subtracted, whose sum stays small. Sums in float64 take several times as
    long.
    """

    def statistics(self, x, mask=None):
        """Like `TimeNorm.statistics`, for one item without padding."""
        mean = _mean(x)
        deviation = x - mean
        variance = _mean(deviation * deviation)
        return mean, self.weight * torch.rsqrt(variance + EPS)


def _mean(x):
    """The mean [B, 1, N] over time of x [B, L, N]."""
    rough = x.mean(dim=1, keepdim=True)
    return rough + (x - rough).mean(dim=1, keepdim=True)


class GraphLayerNorm(StepLayerNorm):
    """`papez_lobes.norms.StepLayerNorm` whose step is a tensor []."""

    def forward(self, x, step):
        """Like `StepLayerNorm.forward`."""
        index = step.reshape(1)
        weight, bias = (x.index_select(0, index).squeeze(0) for x in (self.weight, self.bias))
        return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)


class GraphTransformer(RecurrentTransformer):
    """`papez_lobes.recurrent.RecurrentTransformer` of one item, as a loop in the graph.

    Depth limit, threshold and bias are tensors [], which `GraphSeparator` sets: inputs of the
    graph, so that one file serves many compute budgets.
    """

    def forward(self, tokens, memory, mask=None):
        """Output [1, L, N] and depth [1, L], where `RecurrentTransformer` gives a trace."""
        length, dim = tokens.shape[1:]
        positions = self.block.project_positions()
        limit, threshold, bias = self.budget["limit"], self.budget["threshold"], self.budget["bias"]
        framing_type = GraphAuthorsFraming if self.block.attend_padding else GraphFraming
        hard = self.pruning == "hard"

        def goes_on(step, tokens, memory, cumulative, running, output, depth):
            return (step < limit) & running.any()

        def run_step(step, tokens, memory, cumulative, running, output, depth):
            length = tokens.shape[0]
            times = (running if hard else torch.ones_like(running)).nonzero().squeeze(1)
            torch._check(times.shape[0] >= 1)
            torch._check(times.shape[0] <= length)
            rows, before = take_rows(tokens, times), take_rows(cumulative, times)
            probability = torch.sigmoid(self.halting.logits(rows) + bias)
            reached = before + probability
            halts = reached > threshold
            closes = halts
            if self.halting.close_remainder:
                closes = halts | (step == limit - 1)
            weights = torch.where(closes, 1 - before, probability) * take_rows(running, times)
            framing = framing_type(times, length, self.block.chunks, self.block.num_slots)
            rows, memory = self.block(rows, memory, framing, positions, step)
            weighted = weights.unsqueeze(1) * rows
            return (
                step + 1,
                tokens.index_put((times,), rows),
                memory,
                cumulative.index_put((times,), reached),
                running.index_put((times,), take_rows(running, times) & ~halts),
                output.index_put((times,), weighted, accumulate=True),
                depth + running.long(),
            )

        everything = torch.ones(length, dtype=torch.bool)
        start = (
            torch.zeros((), dtype=torch.long), tokens[0].clone(), memory[0].clone(),
            torch.zeros(length), everything, torch.zeros(length, dim),
            torch.zeros(length, dtype=torch.long),
        )
        *_, output, depth = while_loop(goes_on, run_step, start)
        return output.unsqueeze(0), depth.unsqueeze(0)


class GraphSpectralMaskNet(SpectralMaskNet):
    """`papez_lobes.spectral.SpectralMaskNet` in a form that runtimes compute well.

    Masks are transposed while they are few, and the sum over all of the power keeps its digits.
    """

    def _mean_power(self, power, count):
        """Like `SpectralMaskNet._mean_power`, see `GraphTimeNorm`."""
        return _mean(power.mean(dim=1).unsqueeze(2)).flatten()

    def _bound(self, masks):
        """Like `SpectralMaskNet._bound`, with masks that lie in memory as [B, C, N, L]."""
        spectra = masks.flatten(2).transpose(1, 2).unflatten(1, (self.num_spks, -1))
        bounded = super()._bound(spectra.transpose(2, 3)).transpose(2, 3)
        return bounded.permute(0, 3, 1, 2)


class GraphPReLU(nn.PReLU):
    """`torch.nn.PReLU` by operators that runtimes have vectorised."""

    def forward(self, input):
        """Like `torch.nn.PReLU.forward`, with one slope for all channels."""
        return input.clamp(min=0) + self.weight * input.clamp(max=0)


class GraphSpectralEncoder(SpectralEncoder):
    """`papez_lobes.spectral.SpectralEncoder` as one convolution.

    Runtimes have slow Fourier transforms, or none.
    """

    def forward(self, mixture, lengths=None):
        """Like `SpectralEncoder.forward`."""
        padded = self._pad(mixture, self._frames(mixture.shape[1])).unsqueeze(1)
        spectra = F.conv1d(padded, fourier_kernel(self.window), stride=self.stride)
        real, imaginary = spectra.chunk(2, dim=1)
        return torch.cat([real, imaginary, -imaginary, real], dim=1)


class GraphSpectralDecoder(SpectralDecoder):
    """`papez_lobes.spectral.SpectralDecoder` as one transposed convolution."""

    def forward(self, features, lengths=None):
        """Like `SpectralDecoder.forward`."""
        first, second = features.chunk(2, dim=1)
        # all frequencies but the ends of the spectrum also stand for their negative
        ends = torch.arange(num_bins(self.kernel_size)) % (self.kernel_size // 2) == 0
        gains = (2 - ends.float()).repeat(2).unsqueeze(1) / self.kernel_size
        waveform = F.conv_transpose1d(
            (first + second) * gains, fourier_kernel(self.window), stride=self.stride)
        return waveform.squeeze(1)[:, self.margin:]


def fourier_kernel(window: torch.Tensor) -> torch.Tensor:
    """Cosines, then negative sines, of each frequency, times a window.

    It is computed in the graph, as it would be a twentieth of a small file.

    Arguments
    ---------
    window : torch.Tensor
        [K], K even.

    Returns
    -------
    torch.Tensor
        [2 F, 1, K], F = K / 2 + 1.

    Example
    -------
    >>> samples, kernel = torch.randn(8), fourier_kernel(torch.ones(8))
    >>> spectrum = torch.fft.rfft(samples)
    >>> wanted = torch.cat([spectrum.real, spectrum.imag])
    >>> bool(torch.allclose(kernel.squeeze(1) @ samples, wanted, atol=1e-5))
    True
    """
    size = window.shape[0]
    places = torch.arange(num_bins(size)).unsqueeze(1) * torch.arange(size) % size
    angles = places * (2 * math.pi / size)
    return (torch.cat([angles.cos(), -angles.sin()]) * window).unsqueeze(1)


TRACEABLE = speechbrain_graphs.TRACEABLE | {
    ChunkAttention: GraphAttention,
    StepLayerNorm: GraphLayerNorm,
    TimeNorm: GraphTimeNorm,
    nn.PReLU: GraphPReLU,
    RecurrentTransformer: GraphTransformer,
    SpectralMaskNet: GraphSpectralMaskNet,
    SpectralEncoder: GraphSpectralEncoder,
    SpectralDecoder: GraphSpectralDecoder,
}


class GraphSeparator(nn.Module):
    """A separator of one mixture [1, T], as it is exported.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        `encoder`, `masknet` and `decoder` in float32. They are copied.

    Raises
    ------
    UserError
        The mask network is of an ablation that has no loop to export.
    """

    traceable = TRACEABLE  # a class and the one that takes its place

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.separator = copy.deepcopy(Separator.of(modules)).eval()
        self.recurrent = isinstance(self.separator.masknet, MaskNet)
        if self.recurrent:
            transformer = self.separator.masknet.transformer
            for part in (transformer.block, transformer.halting):
                if isinstance(part, (SeparateBlocks, NoHalting)):
                    name = type(part).__name__
                    raise UserError(f"a separator with {name} cannot be exported, as its steps "
                                    "are no loop over one block that halts")
            transformer.budget = {}
        for module in self.separator.modules():
            module.__class__ = self.traceable.get(type(module), type(module))

    def default_budget(self) -> tuple[torch.Tensor, ...]:
        """Depth limit, halting threshold and bias of the separator; () without recurrence."""
        if not self.recurrent:
            return ()
        transformer = self.separator.masknet.transformer
        return (
            torch.tensor(transformer.max_depth), torch.tensor(float(transformer.halting.threshold)),
            torch.tensor(float(transformer.halting.bias)),
        )

    def forward(
        self, mixture: torch.Tensor, max_depth: torch.Tensor | None = None,
        halting_threshold: torch.Tensor | None = None, halting_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Separate a mixture.

        Arguments
        ---------
        mixture : torch.Tensor
            [1, T], float32, T >= 1.
        max_depth, halting_threshold, halting_bias : torch.Tensor, optional
            [], as in `default_budget`; None without recurrence.

        Returns
        -------
        tuple of torch.Tensor
            Estimates [1, T, C]; with a recurrence also the depth [1, L] of each token.
        """
        if self.recurrent:
            transformer = self.separator.masknet.transformer
            limit = max_depth.clamp(1, transformer.block.num_steps)
            transformer.budget.update(limit=limit, threshold=halting_threshold, bias=halting_bias)
        return self.separate(mixture)

    def separate(self, mixture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Like `forward`, with a budget that is set."""
        encoder, masknet, decoder = self.separator.parts.values()
        features = encoder(mixture)
        options = {"return_trace": True} if self.recurrent else {}
        masks = masknet(features, **options)
        depth = ()
        if self.recurrent:
            masks, *depth = masks
        estimates = decoder((masks * features).flatten(0, 1))  # [C, T']
        size = mixture.shape[1]
        missing = torch.sym_max(size - estimates.shape[1], 0)
        estimates = F.pad(estimates, (0, missing))[:, :size]
        return (estimates.transpose(0, 1).unsqueeze(0), *depth)
