"""The recurrent block: its attention, memory, positions and refusals."""

import pytest
import torch
from torch.nn import functional as F

from papez_lobes.authors_padding import AuthorsFraming
from papez_lobes.block import ChunkAttention, RecurrentBlock, sinusoidal_positions
from papez_lobes.framing import DenseFraming


def make(slots, chunk_tokens=8, **hparams):
    torch.manual_seed(0)
    block = RecurrentBlock(12, 3, 20, 4, slots, chunk_tokens, **hparams)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block.double().eval()


def step_of(block, tokens, memory, framing, step=2):
    return block(tokens, memory, framing, block.attention.project_positions(), step)


@pytest.mark.parametrize("length", [1, 3, 4])
def test_without_memory_it_is_torch_encoder_layer(length):
    """Up to P tokens both chunks hold all of them, so with no position code nothing is left of
    the chunking."""
    block = make(slots=0)
    block.attention.positions.zero_()
    layer = torch.nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True)
    layer = layer.double().eval()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(block.attention.in_proj.weight)
        layer.self_attn.in_proj_bias.copy_(block.attention.in_proj.bias)
        layer.self_attn.out_proj.load_state_dict(block.attention.out_proj.state_dict())
        layer.linear1.load_state_dict(block.linear1.state_dict())
        layer.linear2.load_state_dict(block.linear2.state_dict())
        for theirs, ours in ((layer.norm1, block.norm1), (layer.norm2, block.norm2)):
            theirs.weight.copy_(ours.weight[2])
            theirs.bias.copy_(ours.bias[2])
    tokens = torch.randn(2, length, 12, dtype=torch.float64)
    framing = DenseFraming(torch.ones(2, length, dtype=torch.bool), block.chunks, 0)
    ours, _ = step_of(block, tokens, tokens[:, :0], framing)
    torch.testing.assert_close(ours, layer(tokens), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("attend_padding", [False, True])
@pytest.mark.parametrize("own", [1, 4, 9, 16, 21])
def test_an_item_is_the_same_alone_and_beside_others_with_other_memories(attend_padding, own):
    block, longest = make(slots=3, attend_padding=attend_padding), 21
    tokens = torch.randn(3, longest, 12, dtype=torch.float64)
    memory = torch.randn(3, 3, 12, dtype=torch.float64)
    counts = torch.tensor([longest, own, 5])

    def framing(counts, length):
        kind = AuthorsFraming if attend_padding else DenseFraming
        return kind(torch.arange(length) < counts.unsqueeze(1), block.chunks, 3)

    got, got_memory = step_of(block, tokens, memory, framing(counts, longest))
    alone, alone_memory = step_of(
        block, tokens[1:2, :own], memory[1:2], framing(torch.tensor([own]), own)
    )
    torch.testing.assert_close(got[1:2, :own], alone, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got_memory[1:2], alone_memory, atol=1e-12, rtol=1e-12)


def test_what_stands_in_the_padding_is_not_read():
    block = make(slots=3)
    tokens, memory = torch.randn(1, 20, 12).double(), torch.randn(1, 3, 12).double()
    framing = DenseFraming(torch.arange(20).unsqueeze(0) < 11, block.chunks, 3)
    before, before_memory = step_of(block, tokens, memory, framing)
    tokens[:, 11:] = 1e4
    after, after_memory = step_of(block, tokens, memory, framing)
    assert torch.equal(before[:, :11], after[:, :11])
    assert torch.equal(before_memory, after_memory)


def test_dropout_is_only_on_in_training():
    block = make(slots=3, dropout=0.5)
    tokens, memory = torch.randn(1, 20, 12).double(), torch.randn(1, 3, 12).double()
    framing = DenseFraming(torch.ones(1, 20, dtype=torch.bool), block.chunks, 3)
    assert torch.equal(*(step_of(block, tokens, memory, framing)[0] for _ in range(2)))
    block.train()
    assert not torch.equal(*(step_of(block, tokens, memory, framing)[0] for _ in range(2)))


def test_the_position_code_equals_its_formula():
    code = sinusoidal_positions(3, 4).double()
    angles = torch.tensor([2.0, 0.02]).double()  # position 2 at rates 1 and 10000 ** -0.5
    expected = torch.stack([angles.sin(), angles.cos()], dim=1).flatten()
    torch.testing.assert_close(code[2], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "hparams, message",
    [
        ({"num_heads": 5}, "num_heads is 5"),
        ({"chunk_tokens": 7}, "chunk_tokens is 7"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_hyperparameters_that_do_not_fit_are_named(hparams, message):
    fit = {"dim": 12, "num_heads": 3, "ffn_dim": 20, "num_steps": 4, "num_slots": 2}
    with pytest.raises(ValueError, match=message):
        RecurrentBlock(**{**fit, "chunk_tokens": 8, **hparams})


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bfloat16_on_a_cpu_is_torchs_own(masked):
    torch.manual_seed(0)
    attention = ChunkAttention(16, 2, 2, 8)
    sequence = torch.randn(19, 10, 48, dtype=torch.bfloat16)
    mask = None
    if masked:
        mask = torch.rand(len(sequence), 1, 1, 10) < 0.6
        mask[..., 0] = True  # a slot, which is always a key
    query, key, value = sequence.float().view(-1, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
    trained = attention.attend(sequence.clone().requires_grad_(), mask)
    with torch.inference_mode():
        got = attention.attend(sequence, mask)
    for result in (got, trained):
        assert result.dtype == torch.bfloat16
        assert (result.float() - expected).abs().max() < 0.03
    assert torch.equal(got, trained)
