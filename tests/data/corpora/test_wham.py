"""WHAM! and WHAMR!: which mixtures are heard, and which sources are wanted."""

import csv
import shutil

import pytest

from papez_lobes.data.corpora.wham import prepare_wham
from papez_lobes.errors import UserError
from tests.trees import write_small_whamr


@pytest.fixture(scope="module")
def whamr(tmp_path_factory):
    return write_small_whamr(tmp_path_factory.mktemp("whamr") / "whamr", counts=(2, 1, 1))


@pytest.fixture
def wham(whamr, tmp_path):
    tree = shutil.copytree(whamr, tmp_path / "wham")
    for folder in list(tree.glob("wav8k/min/*/*")):
        if folder.name.endswith("_reverb"):
            shutil.rmtree(folder)
        else:
            folder.rename(folder.with_name(folder.name.removesuffix("_anechoic")))
    return tree


def folders(manifest):
    """Of the first mixture's files."""
    with open(manifest, newline="") as file:
        row = next(csv.DictReader(file))
    return [path.split("/")[-2] for name, path in row.items() if name.endswith("_wav")]


@pytest.mark.parametrize("hparams, wanted", [
    ({}, ["mix_both_anechoic", "s1_anechoic", "s2_anechoic"]),
    ({"reverberant": True}, ["mix_both_reverb", "s1_reverb", "s2_reverb"]),
    ({"reverberant": True, "dereverberate": True},
     ["mix_both_reverb", "s1_anechoic", "s2_anechoic"]),
])
def test_whamr_manifests_name_the_folders_that_were_asked_for(whamr, tmp_path, hparams, wanted):
    for manifest in prepare_wham(whamr, tmp_path, **hparams).values():
        assert folders(manifest) == wanted


def test_wham_manifests_name_its_mixtures_and_sources(wham, tmp_path):
    manifests = prepare_wham(wham, tmp_path / "save")
    assert [path.name for path in manifests.values()] == [
        "wham_tr.csv", "wham_cv.csv", "wham_tt.csv"]
    assert folders(manifests["tr"]) == ["mix_both", "s1", "s2"]


def test_one_speaker_in_noise_has_one_source(wham, tmp_path):
    for folder in list(wham.glob("wav8k/min/*/mix_both")):
        folder.rename(folder.with_name("mix_single"))
    manifest = prepare_wham(wham, tmp_path / "save", 1, mixture_type="mix_single")["tr"]
    assert folders(manifest) == ["mix_single", "s1"]


def test_other_hyperparameters_make_other_manifests(whamr, tmp_path, capsys):
    manifest = prepare_wham(whamr, tmp_path, reverberant=True)["tr"]
    assert prepare_wham(whamr, tmp_path)["tr"] == manifest
    assert folders(manifest)[0] == "mix_both_anechoic"
    assert "it is made again" in capsys.readouterr().out


@pytest.mark.parametrize("hparams, said", [
    ({"reverberant": True}, r"no wav8k/min/tr/mix_both_reverb; check .* reverberant"),
    ({"mixture_type": "mix_clean"}, "no wav8k/min/tr/mix_clean; check"),
    ({"mixture_type": "clean"}, "must be one of mix_clean, mix_both, mix_single"),
    ({"version": "mid"}, "must be one of min, max"),
    ({"version": "max"}, "no wav8k/max/tr/mix_both"),
    ({"num_spks": 3}, r"mixtures of 2 speaker\(s\), but num_spks is 3"),
    ({"dereverberate": True}, "set reverberant to True"),
    ({"mixture_type": "mix_single"}, "num_spks is 2; set it to 1"),
])
def test_hyperparameters_that_do_not_fit_are_refused(wham, tmp_path, hparams, said):
    with pytest.raises(UserError, match=said) as caught:
        prepare_wham(wham, tmp_path / "save", **hparams)
    assert "\n" not in str(caught.value) and not (tmp_path / "save").exists()


def test_only_clean_mixtures_are_held_against_the_sums_of_their_sources(whamr, tmp_path, capsys):
    tree = shutil.copytree(whamr, tmp_path / "whamr")
    prepare_wham(tree, tmp_path / "noisy", check_sums="error")
    for split in (tree / "wav8k/min").iterdir():
        shutil.copytree(split / "mix_both_anechoic", split / "mix_clean_anechoic")  # holds noise
    with pytest.raises(UserError, match="is not the sum of its sources"):
        prepare_wham(tree, tmp_path / "clean", mixture_type="mix_clean", check_sums="error")
    prepare_wham(tree, tmp_path / "clean", mixture_type="mix_clean")
    assert capsys.readouterr().out.count("are not the sum of their sources; the worst is") == 3
