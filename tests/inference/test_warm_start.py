"""Training that begins with a bundle for another number of speakers."""

import copy
from functools import cache

import pytest
import torch

from papez_lobes.config.separator_files import build_modules
from papez_lobes.convolution import TemporalConvolution
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import write_bundle
from papez_lobes.inference.warm_start import start_from
from tests.tiny import SEPARATORS, separator_path, tiny_hparams

GROWS = {"papez", "papez_official"}  # in a hidden layer too


@cache
def built_once(path, num_spks):
    return built(path, num_spks)


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory):
    """The bundle of a separator for so many speakers, written once."""

    @cache
    def write(path, num_spks):
        hparams, trained = built_once(path, num_spks)
        return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle", path, hparams, trained)

    return write


def built(path, num_spks, **hparams):
    hparams = tiny_hparams(path) | {"num_spks": num_spks} | hparams
    torch.manual_seed(num_spks)
    modules = build_modules(path, hparams)
    return hparams, {name: module.eval() for name, module in modules.items()}


@cache
def masks_once(path, num_spks):
    return masks_of(built_once(path, num_spks)[1])


def masks_of(modules):
    with torch.no_grad():
        mixture = torch.randn(1, 400, generator=torch.Generator().manual_seed(5))
        return modules["masknet"](modules["encoder"](mixture))


@pytest.mark.parametrize("path", SEPARATORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("begun, num_spks", [(2, 3), (3, 2), (1, 2), (2, 2)])
def test_masks_of_the_speakers_that_both_have_stay(path, begun, num_spks, bundle_of):
    new = copy.deepcopy(built_once(path, num_spks)[1])
    start_from(bundle_of(path, begun), new, num_spks)
    shared = min(begun, num_spks)
    before, after = masks_once(path, begun)[:shared], masks_of(new)
    assert len(after) == num_spks and after.isfinite().all()
    if path.stem not in GROWS or num_spks >= begun:
        torch.testing.assert_close(after[:shared], before, atol=1e-5, rtol=1e-4)
    assert num_spks <= begun or not torch.allclose(after[-1], after[0], atol=1e-3)


@pytest.mark.parametrize("option", ["ffn_dim", "kernel_size", "num_steps"])
def test_hyperparameters_that_change_as_the_speakers_do_are_no_fit(option, bundle_of):
    path = separator_path("papez")
    size = {"ffn_dim": 16, "kernel_size": 16, "num_steps": 2}[option]
    _, new = built(path, 3, **{option: size * 3 // 2})
    before = [value.clone() for value in new["masknet"].state_dict().values()]
    with pytest.raises(UserError, match="does not fit the separator"):
        start_from(bundle_of(path, 2), new, 3)
    assert all(map(torch.equal, before, new["masknet"].state_dict().values()))


def test_a_convolution_grows_onto_a_bundle_without_one(tmp_path):
    path = next(path for path in SEPARATORS if path.stem == "papez")
    hparams, trained = built(path, 2)
    write_bundle(tmp_path / "bundle", path, hparams, trained)
    _, new = built(path, 2)
    new["masknet"].convolution = TemporalConvolution(16)
    start_from(tmp_path / "bundle", new, 2)
    assert torch.equal(masks_of(new), masks_of(trained))
