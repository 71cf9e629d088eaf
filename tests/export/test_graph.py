"""Steps in the form that is exported, against the lobes."""

import pytest
import torch
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding

from papez_lobes.ablations import NoHalting
from papez_lobes.config.separator_files import build_modules
from papez_lobes.errors import UserError
from papez_lobes.export.graph import GraphFraming, GraphSeparator
from papez_lobes.export.speechbrain_graphs import GraphDualPath, GraphPositionalEncoding
from papez_lobes.packing import PackedFraming
from tests.tiny import build, separator_path, tiny_hparams

LENGTH, DIM, SLOTS = 23, 16, 3


@pytest.mark.parametrize("share", (1.0, 0.6, 0.05))
@pytest.mark.parametrize("seed", range(3))
def test_a_step_equals_the_packed_step(share, seed):
    block = build()[0].masknet.transformer.block
    generator = torch.Generator().manual_seed(seed)
    running = torch.rand(1, LENGTH, generator=generator) < share
    running[0, seed] = True
    times = running[0].nonzero().squeeze(1)
    tokens = torch.randn(len(times), DIM, generator=generator).double()
    memory = torch.randn(1, SLOTS, DIM, generator=generator).double()
    positions = block.project_positions()

    packed = PackedFraming(running, block.chunks, SLOTS)
    graph = GraphFraming(times, LENGTH, block.chunks, SLOTS)
    wanted = block(tokens, memory, packed, positions, 1)
    got = block(tokens, memory[0], graph, positions, 1)
    assert torch.allclose(got[0], wanted[0], atol=1e-12)
    assert torch.allclose(got[1], wanted[1][0], atol=1e-12)


def test_dual_path_chunks_are_the_parents():
    path = separator_path("dprnn")
    masknet = build_modules(path, tiny_hparams(path))["masknet"].eval()
    features = torch.randn(1, masknet.num_spks * 8, 50)
    for length in (1, 5, 6, 7, 12, 50):
        wanted, gap = masknet._Segmentation(features[:, :, :length], 6)
        got, returned = GraphDualPath._Segmentation(masknet, features[:, :, :length], 6)
        assert torch.equal(got, wanted) and returned == length
        joined = GraphDualPath._over_add(masknet, got, length)
        assert torch.equal(joined, masknet._over_add(wanted, gap))


def test_position_codes_are_the_parents():
    code, x = PositionalEncoding(8, 100), torch.zeros(2, 70, 8)
    assert torch.allclose(GraphPositionalEncoding.forward(code, x), code(x), atol=1e-6)


def test_a_separator_without_a_loop_is_refused():
    separator = build()[0]
    separator.masknet.transformer.halting.__class__ = NoHalting
    with pytest.raises(UserError, match="NoHalting cannot be exported"):
        GraphSeparator(separator.parts)


def test_the_given_separator_stays_as_it_is():
    separator = build("papez_small")[0]
    before = {type(module) for module in separator.modules()}
    GraphSeparator(separator.parts)
    assert {type(module) for module in separator.modules()} == before
