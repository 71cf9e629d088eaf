"""Folders of speakers: what is found, and splits that share nothing."""

import numpy as np
import pytest
import soundfile

from papez_lobes.data.audio import write_audio
from papez_lobes.data.mixtures.speakers import (
    Utterance,
    scan_speakers,
    split_speakers,
    split_utterances,
)
from papez_lobes.errors import UserError


def make_speakers(count, utterances=10):
    return {
        f"speaker{number}": [
            Utterance(f"speaker{number}/{index}.wav", 1.0 + index, 8000)
            for index in range(utterances)
        ]
        for number in range(count)
    }


def paths(speakers):
    return {utterance.path for part in speakers.values() for utterance in part}


def test_scan_finds_nested_files_in_order_and_passes_over_hidden_ones(tmp_path):
    for name in ("bob/2.wav", "bob/1.flac", "bob/1/1.wav", "ann/a b/c/ü.wav", "ann/.x.wav",
                 "ann/.old/1.wav", ".git/1.wav", "stray.wav"):
        write_audio(tmp_path / name, np.zeros(800), 8000)
    (tmp_path / "bob" / "notes.txt").touch()
    (tmp_path / "carl").mkdir()
    speakers, skipped = scan_speakers(tmp_path)
    assert list(speakers) == ["ann", "bob"] and skipped == []
    assert [utterance.path for utterance in speakers["bob"]] == [
        "bob/1/1.wav", "bob/1.flac", "bob/2.wav"]
    assert speakers["ann"] == [Utterance("ann/a b/c/ü.wav", 0.1, 8000)]


def test_scan_reports_unreadable_files(tmp_path):
    write_audio(tmp_path / "ann" / "1.wav", np.zeros(800), 8000)
    (tmp_path / "ann" / "2.wav").touch()
    write_audio(tmp_path / "ann" / "3.wav", np.zeros(0), 8000)
    speakers, skipped = scan_speakers(tmp_path)
    assert len(speakers["ann"]) == 1
    assert [path for path, _ in skipped] == ["ann/2.wav", "ann/3.wav"]
    assert skipped[0][1].startswith("is empty") and "no samples" in skipped[1][1]


def test_of_two_microphones_the_first_is_taken(tmp_path):
    for name in ("a.wv1", "a.wv2", "b.wv1", "b.wv2", "b.wav"):
        path = tmp_path / "445" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(800), 16000, format="NIST", subtype="PCM_16")
    speakers, skipped = scan_speakers(tmp_path)
    assert [utterance.path for utterance in speakers["445"]] == ["445/a.wv1", "445/b.wav"]
    assert skipped == []
    (tmp_path / "445" / "a.wv1").unlink()
    with pytest.raises(UserError, match=r"a\.wv2: is WSJ0's second microphone, which costs"):
        scan_speakers(tmp_path)


def test_folders_without_speech_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        scan_speakers(tmp_path / "nowhere")
    write_audio(tmp_path / "flat.wav", np.zeros(800), 8000)
    with pytest.raises(UserError, match=r"holds no speech.*one subfolder per speaker"):
        scan_speakers(tmp_path)


def test_utterance_splits_are_disjoint_and_complete():
    speakers = make_speakers(4, utterances=17)
    splits = split_utterances(speakers, seed=5)
    parts = [paths(part) for part in splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 4 * 17
    assert all(list(part) == list(speakers) for part in splits.values())
    assert splits == split_utterances(speakers, seed=5) != split_utterances(speakers, seed=6)


def test_another_speaker_leaves_the_others_splits_alone():
    few, more = (split_utterances(make_speakers(count)) for count in (2, 3))
    assert all(few[split]["speaker1"] == more[split]["speaker1"] for split in few)


def test_speaker_with_few_utterances_stays_in_training():
    splits = split_utterances(make_speakers(1, utterances=2))
    assert len(splits["tr"]["speaker0"]) == 2 and splits["cv"] == splits["tt"] == {}


def test_speaker_splits_are_disjoint_and_large_enough():
    speakers = make_speakers(9)
    splits = split_speakers(speakers, seed=1, min_speakers=3)
    assert sorted(name for part in splits.values() for name in part) == sorted(speakers)
    assert all(len(part) == 3 for part in splits.values())
    with pytest.raises(UserError, match="9 speakers: too few for 4"):
        split_speakers(speakers, min_speakers=4)


def test_fractions_must_sum_to_one():
    with pytest.raises(ValueError, match="sum to 1"):
        split_utterances(make_speakers(1), {"tr": 0.5, "tt": 0.4})
