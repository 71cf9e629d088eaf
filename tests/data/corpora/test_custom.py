"""Mixtures of one's own: names of splits, formats, and mixtures that are yet to be made."""

import os
import shutil

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.custom import prepare_custom
from papez_lobes.data.datasets import SeparationDataset
from papez_lobes.errors import UserError
from tests.trees import write_small_folders


@pytest.fixture
def tree(tmp_path):
    return write_small_folders(tmp_path / "mine", counts=(2, 1, 1))


def refused(said, *arguments, **options):
    with pytest.raises(UserError, match=said) as caught:
        prepare_custom(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_without_mixtures_they_are_the_sums(tree, tmp_path):
    manifests = prepare_custom(tree, tmp_path / "save", 2)
    assert list(manifests) == ["tr", "cv", "tt"]
    for manifest in manifests.values():
        for item in SeparationDataset(manifest, 2, 8000):
            np.testing.assert_array_equal(item["mix_sig"], item["sources"].sum(dim=-1))
    assert sorted(os.listdir(tmp_path / "save/mixtures")) == ["cv", "tr", "tt"]
    write_audio(tree / "train/s1/m00.wav", soundfile.read(tree / "train/s2/m00.wav")[0], 8000)
    prepare_custom(tree, tmp_path / "save", 2)
    mixture = soundfile.read(tmp_path / "save/mixtures/tr/m00.wav")[0]
    np.testing.assert_allclose(mixture, 2 * soundfile.read(tree / "train/s1/m00.wav")[0])


@pytest.mark.parametrize("names", [("tr", "cv", "tt"), ("train", "dev", "test")])
def test_names_of_splits_formats_and_rates(tree, tmp_path, names):
    for old, new in zip(("train", "valid", "test"), names):
        if old != new:
            (tree / old).rename(tree / new)
        for source in tree.glob(f"{new}/s1/*.wav"):
            samples = 0.5 * soundfile.read(source)[0]
            source.unlink()
            write_audio(source.with_suffix(".flac"), samples, 16000)
            write_audio(source.parents[1] / "mix" / source.name, samples, 16000)
            write_audio(source.parents[1] / "s2" / source.name, samples, 16000)
    manifests = prepare_custom(tree, tmp_path / "save", 2, sample_rate=16000)
    assert manifests["tr"].read_text().count(".flac") == 2
    assert not (tmp_path / "save/mixtures").exists()
    refused("16000 Hz, not 8000", tree, tmp_path / "save", 2)


def test_wrong_folders_are_refused(tree, tmp_path):
    save = tmp_path / "save"
    refused("no such folder; set data_folder to a folder of your own", tmp_path / "no", save, 2)
    refused(r"mixtures of 2 speaker\(s\), but num_spks is 3", tree, save, 3)
    shutil.copytree(tree / "valid", tree / "dev")
    refused("has valid and dev, which mean the same split", tree, save, 2)
    shutil.rmtree(tree / "dev")
    shutil.rmtree(tree / "test")
    refused("has no folder tt or test", tree, save, 2)
    (tree / "test/s2").mkdir(parents=True)
    refused("it has no test/s1; check data_folder", tree, save, 2)
    assert not save.exists()


def test_sources_that_cannot_be_summed_are_listed(tree, tmp_path):
    samples, _ = soundfile.read(tree / "train/s1/m00.wav")
    write_audio(tree / "train/s1/m00.wav", samples[:-1], 8000)
    (tree / "train/s2/m01.wav").unlink()
    refused(r"lists 2 problem\(s\)", tree, tmp_path / "save", 2)
    assert not list((tmp_path / "save").glob("mixtures/tr/*"))
    refused(r"lists all 2 mixture\(s\)", tree, tmp_path / "save", 2, leave_out_damaged=True)


def test_mixtures_and_sources_of_any_format_and_recordings_that_are_passed_over(
    tree, tmp_path, capsys
):
    for split in tree.iterdir():
        for source in list(split.glob("s?/*.wav")):
            samples, _ = soundfile.read(source)
            source.unlink()
            suffix = {"s1": ".aiff", "s2": ".W64"}[source.parent.name]
            soundfile.write(source.with_suffix(suffix), samples, 8000, format=suffix[1:].upper())
    (tree / "train/s1/m99.doc").touch()
    manifests = prepare_custom(str(tree), str(tmp_path / "save"), 2)
    assert [len(SeparationDataset(path, 2, 8000)) for path in manifests.values()] == [2, 1, 1]
    assert f"{tree / 'train'}: passed over 1 file(s): 1 .doc, such as s1/m99.doc" in (
        capsys.readouterr().err)


def test_skip_prep_with_another_folder_is_refused(tree, tmp_path):
    prepare_custom(tree, tmp_path / "save", 2)
    refused("was made with data_folder .*/mine, not .*/other; run once without skip_prep",
            tmp_path / "other", tmp_path / "save", 2, skip_prep=True)
