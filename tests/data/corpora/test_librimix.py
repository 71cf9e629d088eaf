"""LibriMix: what its metadata and its folders say, and where they disagree."""

import shutil

import numpy as np
import pytest
import soundfile
from speechbrain.dataio.dataset import DynamicItemDataset

from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.librimix import prepare_librimix
from papez_lobes.errors import UserError
from tests.trees import write_small_librimix

COUNTS = (3, 2, 2)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_small_librimix(tmp_path_factory.mktemp("storage") / "Libri2Mix", counts=COUNTS)


@pytest.fixture
def tree(original, tmp_path):
    return shutil.copytree(original, tmp_path / "moved since" / "Libri2Mix")


def items(manifest, *keys):
    dataset = DynamicItemDataset.from_csv(str(manifest))
    dataset.set_output_keys(list(keys))
    return list(dataset)


def refused(said, *arguments, **options):
    with pytest.raises(UserError, match=said) as caught:
        prepare_librimix(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_metadata_of_another_machine_names_the_mixtures(tree, tmp_path):
    (tree / "wav8k/min/train-360/mix_clean/left over.wav").touch()  # not in the metadata
    manifests = prepare_librimix(tree, tmp_path / "save", 2)
    assert list(manifests) == ["tr", "cv", "tt"]
    for split, folder, count in zip(manifests, ("train-360", "dev", "test"), COUNTS):
        assert manifests[split].name == f"librimix_{split}.csv"
        found = items(manifests[split], "id", "duration", "mix_wav", "s2_wav")
        assert [item["id"] for item in found] == [f"m{index:02d}" for index in range(count)]
        for item in found:
            assert item["s2_wav"] == str(tree / "wav8k/min" / folder / "s2" / f"{item['id']}.wav")
            assert item["duration"] == soundfile.info(item["mix_wav"]).frames / 8000


def test_without_metadata_the_folders_count(tree, tmp_path, capsys):
    shutil.rmtree(tree / "wav8k/min/metadata")
    manifests = prepare_librimix(tree, tmp_path / "save", 2)
    assert len(items(manifests["tr"], "id")) == COUNTS[0]
    assert "not there; train-360 is what its folders hold" in capsys.readouterr().out


def test_files_that_are_not_as_the_metadata_says(tree, tmp_path):
    split = tree / "wav8k/min/train-360"
    (split / "s2/m00.wav").unlink()
    for part in ("mix_clean", "s1", "s2"):  # a copy cut short after its headers were mended
        samples, _ = soundfile.read(split / part / "m01.wav")
        write_audio(split / part / "m01.wav", samples[:999], 8000)
    refused(r"lists 2 problem\(s\)", tree, tmp_path / "save", 2)
    first, second = (tmp_path / "save/librimix_tr_problems.txt").read_text().splitlines()
    assert first.startswith(f"{split}/s2/m00.wav: no such file")
    assert "lengths differ (mix_clean 999, s1 999, s2 999, metadata " in second


def test_metadata_that_is_none_is_refused(tree, tmp_path):
    path = tree / "wav8k/min/metadata/mixture_dev_mix_clean.csv"
    text = path.read_text()
    for damaged in (text.replace("source_2_path", "source"), text.rpartition(",")[0], "\0"):
        path.write_text(damaged)
        refused("is no metadata of LibriMix|split is empty", tree, tmp_path / "save", 2)
    path.write_text(text + text.splitlines()[1] + "\n")
    refused("more than once under this name", tree, tmp_path / "save", 2)


def test_types_and_numbers_of_speakers_have_their_folders(tree, tmp_path):
    save = tmp_path / "save"
    refused(r"mixtures of 2 speaker\(s\), but num_spks is 3", tree, save, 3)
    refused("has no wav8k/min/train-360/mix_both; check", tree, save, 2, mixture_type="mix_both")
    refused("has no wav8k/min/train-100/mix_clean", tree, save, 2, train_split="train-100")
    refused("has no wav16k/min/train-360", tree, save, 2, sample_rate=16000)
    refused("mixture_type 'mix': must be one of", tree, save, 2, mixture_type="mix")
    refused("one speaker and noise, but num_spks is 2", tree, save, 2, mixture_type="mix_single")
    three = write_small_librimix(tmp_path / "Libri3Mix", 3, counts=(1, 1, 1))
    refused(r"mixtures of 3 speaker\(s\), but num_spks is 2", three, save, 2)
    assert len(items(prepare_librimix(three, save, 3)["tt"], "s3_wav")) == 1


def test_one_speaker_in_noise_has_one_source(tree, tmp_path):
    rng = np.random.default_rng(0)
    shutil.rmtree(tree / "wav8k/min/metadata")
    for split in ("train-360", "dev", "test"):
        for source in (tree / "wav8k/min" / split / "s1").iterdir():
            samples = soundfile.read(source)[0]
            noisy = samples + 0.01 * rng.standard_normal(len(samples))
            write_audio(source.parents[1] / "mix_single" / source.name, noisy, 8000)
    manifest = prepare_librimix(tree, tmp_path / "save", 1, mixture_type="mix_single")["tt"]
    assert manifest.read_text().startswith("ID,duration,mix_wav,s1_wav\n")
    assert all("mix_single" in item["mix_wav"] for item in items(manifest, "mix_wav"))


def test_a_mis_scaled_source_of_a_clean_mixture_is_found(tree, tmp_path, capsys):
    prepare_librimix(tree, tmp_path / "save", 2, check_sums="error")
    source = tree / "wav8k/min/dev/s2/m01.wav"
    write_audio(source, 0.7 * soundfile.read(source)[0], 8000)
    prepare_librimix(tree, tmp_path / "save", 2)
    assert f"the worst is {tree}/wav8k/min/dev/mix_clean/m01.wav" in capsys.readouterr().out
    refused("is not the sum of its sources", tree, tmp_path / "save", 2, check_sums="error")
