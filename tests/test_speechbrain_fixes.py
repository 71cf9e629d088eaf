"""SpeechBrain's separators as this project names them: the promises that Papez keeps hold there."""

import copy
from functools import cache

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.config.experiments import load_experiment
from papez_lobes.config.separator_files import PARTS, build_modules
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle, write_bundle
from papez_lobes.separator import Separator
from tests.tiny import ROOT, separator_path, tiny_hparams

NAMES = ("convtasnet", "dprnn", "sepformer", "resepformer", "skim")
VALUES = {name: tiny_hparams(separator_path(name)) for name in NAMES}
each_separator = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def double():
    """Some of the modules make zeros of the default type, so that is what is set."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(name, seed=0, **hparams):
    separator = copy.deepcopy(build_once(name, seed, **hparams))
    torch.manual_seed(seed)
    return separator


@cache
def build_once(name, seed, **hparams):
    torch.manual_seed(seed)
    return Separator(**build_modules(separator_path(name), VALUES[name] | hparams)).eval()


def build_speechbrains_own(name):
    """The same file with each of our classes replaced by its parent."""
    text = separator_path(name).read_text(encoding="utf-8").partition("\nSeparator:")[0]
    for home, name_there in (("dual_path", "Encoder"), ("resepformer", "ResourceEfficient")):
        parent = f"speechbrain.lobes.models.{home}.{name_there}"
        text = text.replace(f"papez_lobes.speechbrain_fixes.{name_there}", parent)
    assert "papez_lobes" not in text
    torch.manual_seed(1)
    hparams = load_hyperpyyaml(text, dict(VALUES[name]))
    return Separator(**{part: hparams[node] for part, node in PARTS.items()}).eval()


@each_separator
@pytest.mark.parametrize("num_spks", [1, 2, 3])
def test_an_utterance_is_the_same_alone_and_in_any_batch(name, num_spks):
    separator = build(name, num_spks=num_spks)
    mixture, counts = torch.randn(5, 257), [257, 257, 100, 5, 1]
    together = separator(mixture, torch.tensor(counts) / 257)
    unpadded = separator(mixture)
    assert together.shape == unpadded.shape == (5, 257, num_spks)
    for item, count in enumerate(counts):
        whole = separator(mixture[item : item + 1])[0]
        alone = whole if count == 257 else separator(mixture[item : item + 1, :count])[0]
        torch.testing.assert_close(together[item, :count], alone, atol=1e-10, rtol=1e-8)
        assert together[item, count:].eq(0).all()
        torch.testing.assert_close(unpadded[item], whole, atol=1e-10, rtol=1e-8)


def test_speechbrains_own_resepformer_lets_items_see_each_other():
    """Why `papez_lobes.speechbrain_fixes` has one. Once this fails, use SpeechBrain's again."""
    separator, mixture = build_speechbrains_own("resepformer"), torch.randn(2, 257)
    together, alone = separator(mixture), separator(mixture[1:])
    assert (together[1] - alone[0]).abs().max() > 1e-3 * alone.abs().max()


@each_separator
def test_weights_fit_speechbrains_own_modules_and_mean_the_same_there(name):
    ours, theirs = build(name, seed=2), build_speechbrains_own(name)
    theirs.load_state_dict(ours.state_dict())
    for samples in (8, 11, 257):
        mixture = torch.randn(1, samples)
        assert torch.equal(ours(mixture), theirs(mixture))


@each_separator
def test_output_is_exactly_as_long_as_the_input(name):
    separator = build(name)
    for samples in (1, 2, 7, 8, 9, 100, 101):
        estimates = separator(torch.randn(2, samples))
        assert estimates.shape == (2, samples, 2) and estimates.isfinite().all()


@each_separator
def test_silence_and_constants_give_numbers(name):
    separator = build(name)
    for mixture in (torch.zeros(1, 500), torch.full((1, 500), 0.3), torch.ones(1, 1)):
        assert separator(mixture).isfinite().all()


@each_separator
def test_what_is_no_mixture_is_refused_in_words(name):
    separator = build(name)
    for wrong in (torch.randn(1, 0), torch.randn(100), torch.ones(1, 100, dtype=torch.long)):
        with pytest.raises(ValueError, match="expected a floating point mixture"):
            separator.encoder(wrong)


def test_a_kernel_without_a_stride_is_refused_when_built():
    with pytest.raises(UserError, match="kernel_size is 1: it must be at least 2"):
        build_modules(separator_path("skim"), {"kernel_size": 1})


@pytest.mark.parametrize("name, hparams", [
    *((name, {key: value}) for name in NAMES for key in sorted(VALUES[name].keys() - {"dropout"})
      for value in (0, -1, 2.5, "many", True, None)),
    *((name, {"dropout": value}) for name in ("sepformer", "resepformer", "skim")
      for value in (1.0, -0.1, "no")),
    ("convtasnet", {"conv_kernel": 1}), ("dprnn", {"chunk_tokens": 1}),
    ("sepformer", {"num_heads": 5}), ("resepformer", {"num_heads": 5}),
])
def test_hyperparameters_that_build_nothing_name_their_key(name, hparams):
    with pytest.raises(UserError, match=f": {next(iter(hparams))} is ") as caught:
        build_modules(separator_path(name), VALUES[name] | hparams)
    assert "\n" not in str(caught.value)


@each_separator
def test_every_parameter_gets_a_gradient(name):
    separator = build(name).train()
    separator(torch.randn(2, 400), torch.tensor([1.0, 0.6])).square().sum().backward()
    for key, parameter in separator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@each_separator
def test_copies_give_the_same(name):
    separator, mixture = build(name), torch.randn(1, 333)
    assert torch.equal(copy.deepcopy(separator)(mixture), separator(mixture))


@each_separator
def test_its_experiment_trains_and_ends_with_a_bundle_that_speechbrain_loads(name, tmp_path):
    torch.set_default_dtype(torch.float32)  # a bundle is loaded in single precision
    flags = [word for key, value in VALUES[name].items() for word in (f"--{key}", str(value))]
    experiment = load_experiment([
        str(ROOT / f"recipes/WSJ0Mix/separation/hparams/{name}.yaml"), *flags,
        "--data_folder", "/2speakers", "--output_folder", str(tmp_path), "--num_spks", "3",
    ])
    separator = experiment.hparams["modules"]["separator"]
    optimizer = experiment.hparams["optimizer"](separator.parameters(), lr=0.003)
    sources, lengths = torch.randn(2, 300, 3), torch.tensor([1.0, 0.5])
    losses = []
    for _ in range(3):
        estimates = separator(sources.sum(-1), lengths)
        losses.append(experiment.hparams["loss"](estimates, sources, lengths).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]

    bundle = write_bundle(
        tmp_path / "bundle", experiment.separator_file, experiment.hyperparameters, separator.parts
    )
    stock = SepformerSeparation.from_hparams(source=str(bundle))
    ours = load_bundle(bundle)
    for samples in (1, 7, 300, 301):
        mixture = torch.randn(2, samples)
        with torch.no_grad():
            expected = separator.eval()(mixture)
        for loaded in (stock, ours):
            torch.testing.assert_close(Separator.of(loaded.mods)(mixture), expected)
            torch.testing.assert_close(loaded.separate_batch(mixture), expected)
