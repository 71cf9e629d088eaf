"""Tar shards: the same mixtures as files, readable by WebDataset, resumed shard by shard."""

import io

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.batch import PaddedBatch
from torch.utils.data import DataLoader

from papez_lobes.data.audio import read_audio, write_audio
from papez_lobes.data.corpora.wsj0mix import mixture_files, split_folder, write_tree
from papez_lobes.data.mixtures.plans import plan_mixtures
from papez_lobes.data.mixtures.speakers import scan_speakers
from papez_lobes.data.shards import ShardedMixtures, write_shards
from papez_lobes.errors import UserError
from papez_lobes.tools.cli import main
from tests.trees import SAMPLE_RATE, voice


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(root of the speech, five plans, folder of their shards)."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(3):
        write_audio(root / f"{speaker}/a.wav", voice(speaker, 3.0, np.random.default_rng(speaker)),
                    SAMPLE_RATE)
    plans = plan_mixtures(scan_speakers(root)[0], 5, 2, seconds=(0.5, 1.0))
    folder = tmp_path_factory.mktemp("out") / "shards of it"
    write_shards(plans, folder, SAMPLE_RATE, root, per_shard=2)
    return root, plans, folder


def test_shards_hold_the_samples_that_files_do(corpus, tmp_path):
    root, plans, folder = corpus
    assert [path.name for path in sorted(folder.glob("*.tar"))] == [
        "000000.tar", "000001.tar", "000002.tar"]
    write_tree({"tr": plans}, tmp_path, SAMPLE_RATE, root)
    dataset = ShardedMixtures(folder, 2, SAMPLE_RATE)
    assert len(dataset) == 5
    for plan, item in zip(plans, dataset):
        files = mixture_files(split_folder(tmp_path, "tr"), plan.name, 2)
        assert item["id"] == plan.name
        signals = [item["mix_sig"], *item["sources"].T]
        for path, signal in zip(files, signals, strict=True):
            np.testing.assert_array_equal(signal.numpy(), read_audio(path))


def test_webdataset_itself_reads_them(corpus):
    wds = pytest.importorskip("webdataset")
    _, plans, folder = corpus
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == [plan.name for plan in plans]
    theirs = next(iter(wds.WebDataset(urls[1:], shardshuffle=False)))  # bytes
    first, _ = soundfile.read(io.BytesIO(theirs["mix.wav"]), dtype="float32")
    ours = ShardedMixtures(folder, 2, SAMPLE_RATE)
    assert torch.equal(torch.from_numpy(first), ours[2]["mix_sig"])
    assert ours[3]["id"] == samples[3]["json"]["id"]


def test_workers_read_the_same_segments_and_epochs_other_ones(corpus):
    _, _, folder = corpus
    dataset = ShardedMixtures(folder, 2, SAMPLE_RATE, segment_seconds=0.25, seed=2)

    def loaded(workers):
        loader = DataLoader(dataset, batch_size=5, collate_fn=PaddedBatch, num_workers=workers)
        return next(iter(loader)).mix_sig.data

    first = loaded(0)
    assert first.shape == (5, 2000) and torch.equal(loaded(2), first)
    dataset.set_epoch(2)
    assert not torch.equal(loaded(0), first)


def test_an_interrupted_call_makes_only_what_is_missing(corpus, tmp_path):
    root, plans, folder = corpus

    def interrupted(function, work):
        for count, item in enumerate(work):
            if count == 2:
                raise KeyboardInterrupt
            yield function(item)

    with pytest.raises(KeyboardInterrupt):
        write_shards(plans, tmp_path, SAMPLE_RATE, root, per_shard=2, each=interrupted)
    with pytest.raises(UserError, match="no shards that were finished"):
        ShardedMixtures(tmp_path, 2, SAMPLE_RATE)
    kept = (tmp_path / "000001.tar").stat().st_mtime_ns
    write_shards(plans, tmp_path, SAMPLE_RATE, root, per_shard=2)
    assert (tmp_path / "000001.tar").stat().st_mtime_ns == kept
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_mistakes_are_one_line(corpus, tmp_path):
    root, plans, folder = corpus
    with pytest.raises(UserError, match="num_spks 2, not 3"):
        ShardedMixtures(folder, 3, SAMPLE_RATE)
    with pytest.raises(UserError, match="sample_rate 8000, not 16000"):
        ShardedMixtures(folder, 2, 16000)
    with pytest.raises(UserError, match="another plan"):
        write_shards(plans[:3], folder, SAMPLE_RATE, root, per_shard=2)
    write_shards(plans, tmp_path, SAMPLE_RATE, root, per_shard=2)
    (tmp_path / "000001.tar").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"000001\.tar: is missing or has changed"):
        ShardedMixtures(tmp_path, 2, SAMPLE_RATE)


def test_papez_mix_writes_shards_that_train_py_reads(corpus, tmp_path, capsys):
    root, _, _ = corpus
    for jobs in ("1", "2"):
        command = ["mix", str(root), str(tmp_path / jobs), "--count", "tr=4",
                   "--seconds", "0.5", "1"]
        assert main([*command, "--shards", "3", "--jobs", jobs]) == 0
    first, second = (tmp_path / jobs / "2speakers/shards/wav8k/min/tr" for jobs in "12")
    assert sorted(path.name for path in first.glob("*.tar")) == ["000000.tar", "000001.tar"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert len(ShardedMixtures(first, 2, SAMPLE_RATE)) == 4
    assert main([*command, "--shards", "0"]) == 2
    assert "shards 0: must be 1 or more" in capsys.readouterr().err
