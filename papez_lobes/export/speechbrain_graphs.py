"""SpeechBrain's mask networks in a form that `torch.export` can trace for any length.

Each computes what its parent does. Where a parent cuts a tensor of unknown length, tokens are
taken by index here, since the tracer cannot prove that a slice is as long as it is.
"""

import math

import torch
from speechbrain.lobes.models import dual_path, resepformer
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from torch import nn
from torch.nn import functional as F

OPSET = 20  # of the files; the newest that onnxruntime 1.17 reads


def first(x: torch.Tensor, count: int, dim: int) -> torch.Tensor:
    """The first `count` places of an axis.

    Example
    -------
    >>> first(torch.arange(5), 3, dim=0).tolist()
    [0, 1, 2]
    """
    return x.index_select(dim, torch.arange(count))


class GraphLSTM(nn.LSTM):
    """An LSTM as the operator of ONNX.

    torch's tracer gives the states of an LSTM the wrong shape (seen in torch 2.11).
    """

    def forward(self, input, hx=None):
        """Like its parent's."""
        x = input.transpose(0, 1) if self.batch_first else input  # [T, B, N]
        directions = ("", "_reverse")[:1 + self.bidirectional]
        shape = (len(directions), x.shape[1], self.hidden_size)
        states = []
        for layer in range(self.num_layers):
            weights = [
                torch.stack([
                    torch.cat([self._gates(f"{name}_l{layer}{direction}") for name in names])
                    for direction in directions
                ])
                for names in (["weight_ih"], ["weight_hh"], ["bias_ih", "bias_hh"])
            ]
            begin = layer * shape[0]
            start = (None, None) if hx is None else [s[begin:begin + shape[0]] for s in hx]
            x, *state = torch.onnx.ops.symbolic_multi_out(
                "LSTM", (x, *weights, None, *start),
                {"hidden_size": self.hidden_size,
                 "direction": "bidirectional" if self.bidirectional else "forward"},
                dtypes=(x.dtype,) * 3, shapes=((x.shape[0], *shape), shape, shape), version=OPSET,
            )
            x = x.transpose(1, 2).flatten(2)  # [T, B, directions * H]
            states.append(state)
        output = x.transpose(0, 1) if self.batch_first else x
        return output, tuple(torch.cat(parts) for parts in zip(*states))

    def _gates(self, name):
        """A parameter with its gates in the order of ONNX: input, output, forget, cell."""
        in_gate, forget, cell, output = getattr(self, name).chunk(4)
        return torch.cat([in_gate, output, forget, cell])


class GraphPositionalEncoding(PositionalEncoding):
    """SpeechBrain's sinusoidal position code, computed where it is used.

    The parent holds 100,000 positions, which would be most of a file.
    """

    def forward(self, x):
        """The code [1, T, N] of x [B, T, N]."""
        dim = self.pe.shape[2]
        rates = torch.exp(torch.arange(0, dim, 2).float() * (-math.log(10000.0) / dim))
        angles = torch.arange(x.shape[1]).float().unsqueeze(1) * rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).unsqueeze(0)


class GraphDualPath(dual_path.Dual_Path_Model):
    """SpeechBrain's dual-path mask network (DPRNN, SepFormer).

    In blocks of P = K / 2 tokens, chunk s is [block s | block s + 1].
    """

    def _Segmentation(self, input, K):
        """Tokens [B, N, L] to chunks [B, N, K, S], and L where the parent returns the gap."""
        length, hop = input.shape[2], K // 2
        gap = K - (hop + length % K) % K
        count = (length + gap) // hop + 1  # chunks S
        padded = F.pad(input, (hop, (count + 1) * hop - hop - length))
        blocks = padded.unflatten(2, (count + 1, hop))
        chunks = torch.cat([blocks[:, :, :-1], blocks[:, :, 1:]], dim=3)  # [B, N, S, K]
        return chunks.transpose(2, 3).contiguous(), length

    def _over_add(self, input, length):
        """Chunks [B, N, K, S] to tokens [B, N, L]: the sum of each token's copies."""
        chunks = input.transpose(2, 3)  # [B, N, S, K]
        hop = chunks.shape[3] // 2
        tokens = (chunks[:, :, 1:, :hop] + chunks[:, :, :-1, hop:]).flatten(2)
        return first(tokens, length, dim=2)


class GraphPipeline(resepformer.ResourceEfficientSeparationPipeline):
    """SpeechBrain's pipeline of segments and their memory (SkiM, RE-SepFormer)."""

    def forward(self, input):
        """Like its parent's, for one item [1, T, N]."""
        length, dim = input.shape[1:]
        count = length // self.segment_size + 1
        padded = F.pad(input, (0, 0, 0, count * self.segment_size - length))
        output = padded.reshape(count, self.segment_size, dim)
        averages = self.mem_type == "av"
        memory = output.new_zeros(count, 1, dim) if averages else None
        for index, segment_model in enumerate(self.seg_model):
            if averages:
                output = segment_model(output + memory)
            else:
                output, memory = segment_model(output, memory)
            if index == len(self.seg_model) - 1:
                break
            if averages:
                memory = self.mem_model[index](output.mean(1).unsqueeze(0)).permute(1, 0, 2)
            else:
                memory = self.mem_model[index](memory, count)
        output = first(output.flatten(0, 1), length, dim=0).unsqueeze(0)
        return self.output_fc(output.transpose(1, 2)).transpose(1, 2)


TRACEABLE = {
    nn.LSTM: GraphLSTM,
    PositionalEncoding: GraphPositionalEncoding,
    dual_path.Dual_Path_Model: GraphDualPath,
    resepformer.ResourceEfficientSeparationPipeline: GraphPipeline,
}
