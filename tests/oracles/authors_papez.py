"""The authors' Papez for one mixture, in plain PyTorch, written from the text of the paper's model.

An independent second implementation: it shares no line with `papez_lobes`, so that an agreement of
the two says something. It computes step by step what the authors' released code computes (batch 1,
dense, every chunk padded and attended, soft halting), and its state dict has the authors' names.
It is for comparing outputs, and it is the "before" of the benchmark; for a fair training step it
has the authors' dropout as an option.

Letters: T samples, L tokens, N channels, H heads, M memory slots, K tokens a chunk, P = K/2 the
hop, S chunks, C speakers, R steps.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def sinusoidal_code(positions, channels):
    """Sine on the even and cosine on the odd channels, base 10000: [1, positions, channels]."""
    angle = torch.arange(positions, dtype=torch.float64).unsqueeze(1) * torch.exp(
        torch.arange(0, channels, 2, dtype=torch.float64) * (-math.log(10000.0) / channels)
    )
    code = torch.zeros(positions, channels, dtype=torch.float64)
    code[:, 0::2] = torch.sin(angle)
    code[:, 1::2] = torch.cos(angle[:, : channels // 2])
    return code.unsqueeze(0).to(torch.get_default_dtype())


def constant_slots(channels, slots):
    """Slot j is row j of an identity matrix, and a tag of 1 behind it: [1, channels + 1, slots]."""
    return torch.cat([torch.eye(channels, slots), torch.ones(1, slots)]).unsqueeze(0)


def split_chunks(tokens, size):
    """[1,L,N] -> [S,K,N]: half a chunk of zeros in front, half a chunk and a gap of 1..K behind."""
    _, length, channels = tokens.shape
    hop = size // 2
    gap = size - (hop + length % size) % size
    padded = F.pad(tokens, (0, 0, hop, gap + hop))  # [1, P+L+gap+P, N]
    even = padded[:, :-hop].reshape(-1, size, channels)
    odd = padded[:, hop:].reshape(-1, size, channels)
    return torch.stack([even, odd], dim=1).reshape(-1, size, channels)


def average_chunks(chunks, length):
    """[S,K,N] -> [1,L,N]: every token is in two chunks; the mean of its two outputs."""
    _, size, channels = chunks.shape
    hop = size // 2
    even = chunks[0::2].reshape(1, -1, channels)[:, hop:]
    odd = chunks[1::2].reshape(1, -1, channels)[:, :-hop]
    return ((even + odd) / 2)[:, :length]


class StepNorm(nn.Module):
    """A layer norm that owns one gain and one bias per step: [R,N]."""

    def __init__(self, steps, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(steps, channels))
        self.bias = nn.Parameter(torch.zeros(steps, channels))

    def forward(self, x, step):
        return F.layer_norm(x, x.shape[-1:], self.weight[step], self.bias[step], eps=1e-5)


class AuthorsLayer(nn.Module):
    """The one transformer layer that is applied at every step."""

    def __init__(self, N, H, M, K, R, ffn, dropout):
        super().__init__()
        self.slots, self.chunk = M, K
        self.self_attn = nn.MultiheadAttention(N, H, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear1 = nn.Linear(N, ffn)
        self.linear2 = nn.Linear(ffn, N)
        self.norm1 = StepNorm(R, N)
        self.norm2 = StepNorm(R, N)
        self.register_buffer("position_signal", sinusoidal_code(M + K, N))

    def attend(self, tokens, memory):
        """tokens [1,L,N], memory [1,M,N] -> what attention adds to each."""
        chunks = split_chunks(tokens, self.chunk)  # [S,K,N]
        sequence = torch.cat([memory.expand(len(chunks), -1, -1), chunks], dim=1)  # [S,M+K,N]
        sequence = sequence + self.position_signal
        attended, _ = self.self_attn(sequence, sequence, sequence, need_weights=False)
        to_tokens = average_chunks(attended[:, self.slots :], tokens.shape[1])
        to_memory = attended[:, : self.slots].mean(dim=0, keepdim=True)
        return to_tokens, to_memory

    def forward(self, tokens, memory, step):
        to_tokens, to_memory = self.attend(tokens, memory)
        to_both = torch.cat([to_memory, self.dropout(to_tokens)], dim=1)
        z = self.norm1(torch.cat([memory, tokens], dim=1) + to_both, step)
        hidden = self.dropout(torch.relu(self.linear1(z)))
        z = self.norm2(z + self.dropout(self.linear2(hidden)), step)
        return z[:, self.slots :], z[:, : self.slots]


class AuthorsTransformer(nn.Module):
    """The layer in a loop, and halting on the last channel of the token state."""

    def __init__(self, N, H, M, K, R, ffn, threshold, timing_signal, dropout):
        super().__init__()
        self.steps, self.threshold = R, threshold
        self.enc = AuthorsLayer(N, H, M, K, R, ffn, dropout)
        if timing_signal:  # dead: no computation reads it
            self.register_buffer("timing_signal", sinusoidal_code(R, N))

    def forward(self, tokens, memory):
        """tokens [1,L,N], memory [1,M,N] -> weighted sum [1,L,N], tokens running at each step."""
        output = torch.zeros_like(tokens)
        halting = torch.zeros_like(tokens[..., :1])  # [1,L,1]
        running = torch.ones_like(halting, dtype=torch.bool)
        per_step = []
        for step in range(self.steps):
            per_step.append(int(running.sum()))
            p = torch.sigmoid(tokens[..., -1:])
            stops = running & (halting + p > self.threshold)
            weight = torch.where(stops, 1 - halting, p) * running
            halting = halting + p * running
            running = running & ~stops
            tokens, memory = self.enc(tokens, memory, step)
            output = output + weight * tokens
            if not running.any():
                break
        return output, per_step


class AuthorsMasknet(nn.Module):
    """features [1,N,L] and slots [1,N+1,M] -> masks [C,N,L]."""

    def __init__(self, N, H, M, K, R, ffn, C, threshold, timing_signal, dropout):
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv1d(N + 1, N, 1),
            nn.InstanceNorm1d(N, affine=True),
            nn.PReLU(),
            nn.Conv1d(N, N, 1),
        )
        self.transformer = AuthorsTransformer(
            N, H, M, K, R, ffn, threshold, timing_signal, dropout
        )
        self.dislodge = nn.Sequential(
            nn.Conv1d(N, N * C, 1),
            nn.InstanceNorm1d(N * C, affine=True),
            nn.PReLU(),
            nn.Conv1d(N * C, N * C, 1),
        )

    def forward(self, features, slots):
        count = slots.shape[-1]
        tagged = F.pad(features, (0, 0, 0, 1))  # [1,N+1,L], the tag of a token is 0
        state = self.embed(torch.cat([slots, tagged], dim=-1)).transpose(1, 2)  # [1,M+L,N]
        output, per_step = self.transformer(state[:, count:], state[:, :count])
        masks = torch.tanh(self.dislodge(output.transpose(1, 2)))  # [1,C*N,L]
        return masks.reshape(-1, *features.shape[1:]), per_step


class AuthorsPapez(nn.Module):
    """mix [1,T] -> sources [1,T,C]; T a multiple of the stride, and at least two frames.

    `timing_signal` adds the dead tensor that some checkpoints hold.
    """

    def __init__(
        self,
        N=256,
        H=8,
        M=10,
        K=150,
        R=16,
        ffn=1024,
        C=2,
        threshold=0.9,
        kernel=16,
        timing_signal=False,
        dropout=0.0,
    ):
        super().__init__()
        stride = kernel // 2
        self.encoder = nn.Sequential(
            nn.Conv1d(1, N, kernel, stride),
            nn.InstanceNorm1d(N, affine=True),
            nn.LeakyReLU(0.01),
            nn.Conv1d(N, N, 1),
        )
        self.masknet = AuthorsMasknet(
            N, H, M, K, R, ffn, C, threshold, timing_signal, dropout
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(N, N, 1),
            nn.InstanceNorm1d(N, affine=True),
            nn.LeakyReLU(0.01),
            nn.ConvTranspose1d(N, 1, kernel, stride),
        )
        self.register_buffer("memory_slots", constant_slots(N, M))

    def forward(self, mix):
        return self.separate(mix)[0]

    def separate(self, mix):
        """mix [1,T] -> sources [1,T,C], and the number of tokens still running at each step."""
        features = self.encoder(mix.unsqueeze(1))  # [1,N,L]
        masks, per_step = self.masknet(features, self.memory_slots)
        waves = self.decoder(masks * features).squeeze(1)  # [C,T']
        samples = mix.shape[-1]
        waves = F.pad(waves, (0, max(0, samples - waves.shape[-1])))[:, :samples]
        return waves.t().unsqueeze(0), per_step

    def tokens_per_step(self, mix):
        """How many tokens ran at each step that was made: a list of at most R falling counts."""
        return self.separate(mix)[1]
