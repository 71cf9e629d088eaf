"""Converted weights give the authors' output: our lobes against an independent implementation."""

import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation
from torch import nn

from papez_lobes.cli.main import main
from papez_lobes.config.separator_files import build_modules, separator_file
from tests.oracles.authors_papez import AuthorsPapez, StepNorm

SIZES = {"N": 16, "H": 2, "M": 3, "K": 8, "R": 12, "ffn": 32}
PAPER = {}
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
LOGIT = -0.5  # of halting, on average: tokens stop after some steps, and not all at once


def random_authors(seed, **sizes):
    """The authors' model with every parameter random, so that a lost or swapped one shows."""
    torch.manual_seed(seed)
    model = AuthorsPapez(**sizes).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (StepNorm, nn.InstanceNorm1d)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0.1, 0.5)
            elif isinstance(module, nn.MultiheadAttention):
                module.in_proj_bias.normal_(std=0.3)
                module.out_proj.bias.normal_(std=0.3)
        model.masknet.embed[3].bias[-1] = LOGIT
        model.masknet.transformer.enc.norm2.bias[:, -1] = LOGIT
    return model


def convert(model, folder, lightning=False, heads=8, threshold=0.9):
    """The authors' model through a file, `papez convert` and SpeechBrain's own loader."""
    state = model.state_dict()
    if lightning:
        state = {"state_dict": {f"model.{key}": value for key, value in state.items()}}
    torch.save(state, folder / "authors.ckpt")
    options = ["--num-heads", str(heads), "--halting-threshold", str(threshold)]
    status = main(["convert", str(folder / "authors.ckpt"), str(folder / "bundle"), *options])
    assert status == 0
    return SepformerSeparation.from_hparams(
        source=str(folder / "bundle"), savedir=str(folder / "links")
    )


def noise(samples, seed=0):
    return torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def assert_agree(model, ours, samples, dtype, tolerance):
    """Same tokens at each step first: one rounding at the threshold moves a whole step."""
    mixture = noise(samples).to(dtype)
    model.to(dtype)
    ours.to(dtype)
    with torch.no_grad():
        expected, per_step = model.separate(mixture)
        _, trace = ours.mods.masknet(ours.mods.encoder(mixture), return_trace=True)
        estimate = ours.separate_batch(mixture)
    assert trace.tokens_per_step.squeeze(1).tolist() == per_step
    assert estimate.shape == expected.shape == (1, samples, ours.hparams.num_spks)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=tolerance)
    return per_step


@pytest.mark.parametrize("speakers", [2, 3])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9, 1.0])
def test_at_tiny_size_they_agree(tmp_path, speakers, threshold):
    model = random_authors(speakers, **SIZES, C=speakers, threshold=threshold)
    ours = convert(model, tmp_path, lightning=speakers == 3, heads=2, threshold=threshold)
    for dtype, tolerance in TOLERANCES.items():
        # tokens with every remainder by the chunk of 8; two of them (24 samples) in float64 only,
        # since an instance norm over two values amplifies any rounding
        shortest = 24 if dtype == torch.float64 else 32
        for samples in (*range(shortest, shortest + 8 * 8, 8), 1600):
            per_step = assert_agree(model, ours, samples, dtype, tolerance)
        if threshold < 1:
            assert len(set(per_step)) > 2  # else tokens did not stop at different steps


@pytest.mark.parametrize("sizes", [
    {"M": 0}, {"M": 16}, {"K": 2}, {"kernel": 2}, {"kernel": 10}, {"R": 1}, {"H": 16}, {"C": 1},
], ids=str)
def test_at_other_sizes_they_agree(tmp_path, sizes):
    sizes = {**SIZES, **sizes}
    model = random_authors(4, **sizes)
    ours = convert(model, tmp_path, heads=sizes["H"])
    assert_agree(model, ours, 15 * sizes.get("kernel", 16), torch.float64, 1e-9)


def test_at_the_papers_size_they_agree(tmp_path):
    model = random_authors(5, **PAPER)
    ours = convert(model, tmp_path, lightning=True)
    for dtype, tolerance in TOLERANCES.items():
        shortest = 24 if dtype == torch.float64 else 160
        for samples in (shortest, 1200, 2000):
            assert_agree(model, ours, samples, dtype, tolerance)


def test_one_frame_is_refused_by_theirs_and_taken_by_ours(tmp_path):
    """The authors' instance norm refuses a single frame; ours gives that length back."""
    model = random_authors(6, **SIZES)
    ours = convert(model, tmp_path, heads=2)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        model(noise(16))
    assert ours.separate_batch(noise(16)).shape == (1, 16, 2)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_as_many_part_by_part():
    model = AuthorsPapez()
    modules = build_modules(separator_file("papez_official"))
    masknet = modules["masknet"]
    pairs = {
        70_656: (model.encoder, modules["encoder"]),
        132_353: (model.masknet.embed, masknet.embed),
        805_120: (model.masknet.transformer, masknet.transformer),
        395_265: (model.masknet.dislodge, masknet.head),
        70_401: (model.decoder, modules["decoder"]),
    }
    for expected, (theirs, ours) in pairs.items():
        assert (count(theirs), count(ours)) == (expected, expected)
    assert count(model) == sum(map(count, modules.values())) == 1_473_795
