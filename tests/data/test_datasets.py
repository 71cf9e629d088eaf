"""Data sets of manifests: segments, epochs, pickling, and workers under every start method."""

import csv
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import make_dataloader

from papez_lobes.data.audio import write_audio
from papez_lobes.data.datasets import EpochAware, SeparationDataset
from papez_lobes.data.dynamic import training_set
from papez_lobes.errors import UserError

RATE = 8000
SECONDS = (0.5, 0.1, 0.3)  # of the mixtures


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Three mixtures of two speakers, whose float samples sum exactly."""
    folder = tmp_path_factory.mktemp("mixtures with, a comma")
    rng = np.random.default_rng(0)
    rows = [["ID", "duration", "mix_wav", "s1_wav", "s2_wav"]]
    for number, seconds in enumerate(SECONDS):
        sources = 0.1 * rng.standard_normal((2, int(seconds * RATE))).astype(np.float32)
        files = [folder / part / f"m{number}.wav" for part in ("mix", "s1", "s2")]
        for file, samples in zip(files, [sources.sum(axis=0), *sources]):
            write_audio(file, samples, RATE, subtype="FLOAT", sync=False)
        rows.append([f"m{number}", seconds, *files])
    with open(folder / "tr.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "tr.csv"


def items(dataset, epoch):
    dataset.set_epoch(epoch)
    return [{key: value.tolist() if torch.is_tensor(value) else value
             for key, value in item.items()} for item in dataset]


def test_items_are_mixtures_and_their_sources(manifest):
    for number, item in enumerate(SeparationDataset(str(manifest), 2, RATE)):
        assert item["id"] == f"m{number}"
        assert item["mix_sig"].shape == (SECONDS[number] * RATE,)
        assert torch.equal(item["mix_sig"], item["sources"].sum(dim=-1))


def test_segments_are_cut_alike_and_change_with_epoch_and_seed(manifest):
    dataset = SeparationDataset(manifest, 2, RATE, segment_seconds=0.2, seed=3)
    first, second = items(dataset, 1), items(dataset, 2)
    assert [len(item["mix_sig"]) for item in first] == [1600, 800, 1600]
    assert first != second and first == items(dataset, 1)
    assert first[1] == second[1]  # shorter than a segment
    for item in dataset:
        assert torch.equal(item["mix_sig"], item["sources"].sum(dim=-1))
    other = SeparationDataset(manifest, 2, RATE, segment_seconds=0.2, seed=4)
    assert items(other, 1) != first


def test_plain_pickle_gives_the_same_items(manifest):
    dataset = SeparationDataset(manifest, 2, RATE, segment_seconds=0.2)
    dataset.set_epoch(4)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.epoch == 4
    assert items(again, 4) == items(dataset, 4) and items(again, 5) == items(dataset, 5)
    again.set_epoch(6)
    assert dataset.epoch == 5  # a copy has its own epoch, which its workers see
    assert again._epoch.is_shared()


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_give_the_same_items_and_see_each_epoch(manifest, method):
    dataset = SeparationDataset(manifest, 2, RATE, segment_seconds=0.2)
    loader = make_dataloader(
        dataset, batch_size=2, num_workers=1, multiprocessing_context=method,
        persistent_workers=True, collate_fn=PaddedBatch,
    )
    for epoch in (1, 2, 7):
        dataset.set_epoch(epoch)
        batches = list(loader)
        for batch, alone in zip(batches, make_dataloader(dataset, batch_size=2), strict=True):
            assert batch.id == alone.id
            assert torch.equal(batch.mix_sig.data, alone.mix_sig.data)
            assert torch.equal(batch.sources.data, alone.sources.data)


def test_the_mixin_works_with_any_data_set():
    class Epochs(EpochAware, torch.utils.data.Dataset):
        def __getitem__(self, index):
            return self.epoch

    dataset = Epochs()
    assert dataset.epoch == dataset[0] == 1
    dataset.set_epoch(9)
    assert dataset[0] == 9


def test_a_source_cut_since_the_manifest_was_made_is_one_line(manifest, tmp_path):
    rows = list(csv.reader(manifest.open(newline="")))
    rows[1][4] = str(tmp_path / "s2.wav")
    write_audio(tmp_path / "s2.wav", np.ones(3000), RATE)
    with open(tmp_path / "tr.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(UserError, match=r"s2\.wav: has become shorter since .* skip_prep"):
        SeparationDataset(tmp_path / "tr.csv", 2, RATE)[0]
    (tmp_path / "s2.wav").unlink()
    with pytest.raises(UserError, match=r"s2\.wav: no such file"):
        SeparationDataset(tmp_path / "tr.csv", 2, RATE)[0]


@pytest.mark.parametrize("seconds", [0.0001, 0.09])
def test_segments_too_short_to_train_on_are_refused_without_blaming_a_file(
    manifest, tmp_path, seconds
):
    made = ({"speech_folder": None}, {"speech_folder": tmp_path, "store_folder": tmp_path,
                                      "count": 1})  # every kind of training set
    for options in made:
        with pytest.raises(UserError, match=f"^segment_seconds {seconds}: must be at least 0.1 s"):
            training_set(manifest, num_spks=2, sample_rate=RATE, segment_seconds=seconds,
                         **options)


def test_an_empty_manifest_is_refused_as_an_empty_split(tmp_path):
    (tmp_path / "cv.csv").write_text("ID,duration,mix_wav,s1_wav,s2_wav\n")
    with pytest.raises(UserError, match=r"cv\.csv: holds no mixtures; this split is empty"):
        SeparationDataset(tmp_path / "cv.csv", 2, RATE)


def test_too_little_shared_memory_for_workers_is_one_line_and_no_endless_wait(
    manifest, monkeypatch
):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    dataset = SeparationDataset(manifest, 2, RATE)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    options = {"batch_size": 2, "collate_fn": dataset.collate}
    assert len(list(make_dataloader(dataset, **options))) == 2
    loader = make_dataloader(dataset, num_workers=1, multiprocessing_context="fork", **options)
    with pytest.raises(UserError, match=r"too little shared memory.*--shm-size=\S+.*--num_workers"):
        list(loader)


@pytest.mark.parametrize("num_spks", [1, 10])
def test_sources_of_any_number_of_speakers_are_in_order(tmp_path, num_spks):
    names = ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]
    for value, name in enumerate(names):
        write_audio(tmp_path / f"{name}.wav", np.full(800, value / 100), RATE, subtype="FLOAT")
    lines = [["ID", "duration", *(f"{name}_wav" for name in names)],
             ["a", "0.1", *(str(tmp_path / f"{name}.wav") for name in names)]]
    (tmp_path / "tr.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    item = SeparationDataset(tmp_path / "tr.csv", num_spks, RATE)[0]
    wanted = torch.arange(1, num_spks + 1) / 100
    assert torch.equal(item["sources"], wanted.expand(800, -1))
