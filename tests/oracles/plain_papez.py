"""The recurrence, token by token and chunk by chunk, with torch's own layers: slow and plain.

One utterance, no padding, no masks: a chunk is the list of the tokens that take part. What the
package computes with masks (and packed) must equal this.
"""

import torch
from torch import nn
from torch.nn import functional as F


def attention_of(block):
    """torch.nn.MultiheadAttention with the block's weights."""
    ours = block.attention
    theirs = nn.MultiheadAttention(ours.out_proj.in_features, ours.num_heads, batch_first=True)
    theirs = theirs.to(ours.out_proj.weight.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_proj.weight)
        theirs.in_proj_bias.copy_(ours.in_proj.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return theirs.eval()


def recur(loop, tokens, memory, hard):
    """`loop` on tokens [L, N] and memory [M, N]; returns output [L, N] and depth [L]."""
    block, halting = loop.block, loop.halting
    attention = attention_of(block)
    size, slots, length = block.chunks.size, memory.shape[0], tokens.shape[0]
    hop = size // block.chunks.copies
    code = block.attention.positions.to(tokens.dtype)
    output, total = torch.zeros_like(tokens), [0.0] * length
    depth, running = [0] * length, list(range(length))
    for step in range(loop.max_depth):
        members_of_step = running if hard else range(length)
        weights = {}
        for token in running:
            depth[token] += 1
            p = torch.sigmoid(tokens[token, -1] + halting.bias)
            last = step == loop.max_depth - 1 and halting.close_remainder
            stops = total[token] + p > halting.threshold
            weights[token] = 1 - total[token] if stops or last else p
            total[token] = total[token] + p
        attended_tokens, attended_memory = {token: [] for token in members_of_step}, []
        for first in range(hop - size, length, hop):  # position of the chunk's first token
            members = [t for t in members_of_step if first <= t < first + size]
            if not members:
                continue
            places = list(range(slots)) + [slots + t - first for t in members]
            sequence = (torch.cat([memory, tokens[members]]) + code[places]).unsqueeze(0)
            attended = attention(sequence, sequence, sequence, need_weights=False)[0].squeeze(0)
            attended_memory.append(attended[:slots])
            for token, row in zip(members, attended[slots:]):
                attended_tokens[token].append(row)
        assert all(len(rows) == block.chunks.copies for rows in attended_tokens.values())
        updated = tokens.clone()
        for token, rows in attended_tokens.items():
            updated[token] = _finish(block, tokens[token] + sum(rows) / len(rows), step)
        memory = _finish(block, memory + torch.stack(attended_memory).mean(dim=0), step)
        tokens = updated
        for token, weight in weights.items():
            output[token] += weight * tokens[token]
        running = [token for token in running if total[token] <= halting.threshold]
        if not running:
            break
    return output, torch.tensor(depth)


def _finish(block, x, step):
    """First norm, feed-forward, second norm."""
    size = x.shape[-1:]
    x = F.layer_norm(x, size, block.norm1.weight[step], block.norm1.bias[step])
    x = x + block.linear2(F.relu(block.linear1(x)))
    return F.layer_norm(x, size, block.norm2.weight[step], block.norm2.bias[step])
