"""ExecuTorch files of separators, which XNNPACK computes: for phones and small boards.

The file takes a mixture [1, samples] of one fixed length and gives estimates [1, samples, speakers]
and the depth [1, tokens] of each token. All shapes are fixed, so all tokens run all steps. Those
that have halted are masked: the result is that of the pruned separator, at the cost of full depth.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from papez_lobes.errors import UserError
from papez_lobes.export.graph import TRACEABLE, GraphSeparator
from papez_lobes.export.onnx_file import quiet_exporter
from papez_lobes.files import write_bytes
from papez_lobes.inference.bundle import read_bundle
from papez_lobes.norms import StepLayerNorm
from papez_lobes.pruning import choose_framing
from papez_lobes.recurrent import RecurrentTransformer


class FixedTransformer(RecurrentTransformer):
    """`papez_lobes.recurrent.RecurrentTransformer` of one item, with a fixed number of steps."""

    def forward(self, tokens, memory, mask=None):
        """Output [1, L, N] and depth [1, L], where `RecurrentTransformer` gives a trace."""
        block = self.block
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
        kind = choose_framing(self.pruning, "masked", block.attend_padding, tokens.device)
        framing = kind(valid, block.chunks, block.num_slots)
        positions, state = block.project_positions(), self.halting.start(valid)
        output, depth = torch.zeros_like(tokens), torch.zeros_like(valid, dtype=torch.long)
        for step in range(self.max_depth):
            depth = depth + state.running.long()
            last = step == self.max_depth - 1
            weights, state = self.halting(self.halting.logits(tokens), state, last)
            tokens, memory = block(tokens, memory, framing, positions, step)
            output = output + weights.unsqueeze(-1) * tokens
            framing, tokens, state = framing.prune(tokens, state)
        return output, depth


class FixedSeparator(GraphSeparator):
    """A Papez of one mixture [1, T] of a fixed length, as it is exported."""

    traceable = TRACEABLE | {
        RecurrentTransformer: FixedTransformer, StepLayerNorm: StepLayerNorm}

    def forward(self, mixture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimates [1, T, C] and the depth [1, L] of each token."""
        return self.separate(mixture)


def export_executorch(
    bundle: str | Path, path: str | Path, seconds: float, overrides: Mapping | None = None,
    trust: bool = False,
) -> int:
    """Write the ExecuTorch file of a bundle.

    Arguments
    ---------
    bundle, path, overrides, trust
        See `papez_lobes.export.onnx_file.export_bundle`.
    seconds : float
        Duration of the mixtures that the file takes.

    Returns
    -------
    int
        The size of the file in bytes.

    Raises
    ------
    UserError
        ExecuTorch is not installed, the bundle cannot be read, or it is no Papez.
    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.exir.passes.constant_prop_pass import constant_prop_pass
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; install papez-lobes[executorch]") from error
    modules, hparams = read_bundle(bundle, overrides, trust)
    separator = FixedSeparator(modules).requires_grad_(False)
    samples = round(seconds * hparams["sample_rate"])
    if not separator.recurrent or samples < 1:
        raise UserError(f"{bundle}: --seconds must be above 0, and only a Papez is written as .pte")
    with quiet_exporter():
        program = torch.export.export(separator, (torch.randn(1, samples),))
        lowered = to_edge_transform_and_lower(
            constant_prop_pass(program), partitioner=[XnnpackPartitioner()],
            constant_methods={name: hparams[name] for name in ("sample_rate", "num_spks")})
        content = lowered.to_executorch().buffer
    write_bytes(path, content)
    return len(content)
