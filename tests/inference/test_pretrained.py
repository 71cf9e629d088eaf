"""The shipped bundles load offline and still give the figures that were stored with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation

from tests.trees import SAMPLE_RATE, voice

BUNDLES = sorted(path.parent for path in Path(__file__).parents[2].glob("pretrained/*/check.json"))


def figures(bundle):
    """Levels of the estimates of a seeded mixture, and correlations of each two, greatest first."""
    rng, model = np.random.default_rng(0), SepformerSeparation.from_hparams(source=str(bundle))
    assert model.hparams.sample_rate == SAMPLE_RATE
    mixture = sum(voice(speaker, 2.0, rng) for speaker in range(model.hparams.num_spks))
    estimates = model.separate_batch(torch.from_numpy(mixture)[None])[0].double()
    levels = estimates.square().mean(dim=0).sqrt()
    scaled = estimates / levels
    both = scaled.T @ scaled / len(scaled)
    pairs = both[tuple(torch.triu_indices(*both.shape, offset=1))]
    return {name: values.sort(descending=True).values.tolist()
            for name, values in (("levels", levels), ("correlations", pairs))}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_gives_the_figures_stored_with_it(bundle):
    stored = json.loads((bundle / "check.json").read_text())
    got = figures(bundle)
    assert got["levels"] == pytest.approx(stored["levels"], rel=1e-3)
    assert got["correlations"] == pytest.approx(stored["correlations"], abs=1e-3)
    for name in ("README.md", "hyperparams.yaml", "encoder.ckpt", "masknet.ckpt", "decoder.ckpt"):
        assert (bundle / name).is_file()
    assert sum(path.stat().st_size for path in bundle.iterdir()) < 10e6


def test_there_are_bundles():
    assert BUNDLES


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_card_names_our_loader_and_what_is_wrong_in_speechbrains_separate_file(bundle):
    text = " ".join((bundle / "README.md").read_text().split())
    assert f'papez_lobes.load("{bundle.name}").separate_file(path)' in text
    assert f"papez separate mixture.wav -n {bundle.name}" in text
    for fault in ("NaN for silence", "two recordings of a stereo file at 8 kHz", "no `Path`"):
        assert fault in text
