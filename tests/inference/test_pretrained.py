"""The shipped bundles load offline and still give the figures that were stored with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation

import papez_lobes
from papez_lobes.inference.shipped import FILES, ONNX_FILE, fingerprint
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
    for name in ("README.md", *FILES):
        assert (bundle / name).is_file()
    sizes = {path.name: path.stat().st_size for path in bundle.iterdir()}
    assert sizes.pop(ONNX_FILE) < 1.1 * sizes["masknet.ckpt"]
    assert sum(sizes.values()) < 20e6


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_onnx_file_is_that_of_the_weights(bundle):
    """`papez export NAME --overwrite` writes it anew (docs/weights.md)."""
    assert fingerprint(bundle).encode() in (bundle / ONNX_FILE).read_bytes()
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    mixture = voice(0, 2.0, rng) + voice(1, 2.0, rng)
    wanted, depths = papez_lobes.load(bundle, "cpu", engines=["torch"]).separate_with_depth(
        mixture[None])
    separator = papez_lobes.load(bundle, "cpu", engines=["onnx", "torch"])
    assert separator.engine == "onnx"
    estimates, depth = separator.separate_with_depth(mixture[None])
    assert np.array_equal(depth, depths)
    # 1e-6 on real speech; rounding grows on these voices, to between 4e-6 and 1.2e-4 by their seed
    assert np.abs(estimates - wanted).max() < 1e-4


def test_there_are_bundles():
    assert BUNDLES


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_card_names_our_loader_and_what_is_wrong_in_speechbrains_separate_file(bundle):
    text = " ".join((bundle / "README.md").read_text().split())
    assert f'papez_lobes.load("{bundle.name}").separate_file(path)' in text
    assert f"papez separate mixture.wav -n {bundle.name}" in text
    for fault in ("NaN for silence", "two recordings of a stereo file at 8 kHz", "no `Path`"):
        assert fault in text
