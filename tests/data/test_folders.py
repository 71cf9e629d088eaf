"""Speakers of Common Voice and VCTK, for `papez mix` and mixing on the fly."""

import errno
import json
import os
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest

from papez_lobes.cli.main import main
from papez_lobes.data.audio import write_audio
from papez_lobes.data.containers import FFMPEG_SUFFIXES, SNDFILE_SUFFIXES
from papez_lobes.data.folders import paired_files
from papez_lobes.data.lookup import audio_files, report_passed_over
from papez_lobes.data.mixtures.speakers import find_speech, scan_speakers
from papez_lobes.data.mixtures.trees import draw_plans, render_plans
from papez_lobes.data.store import build_store, find_files
from papez_lobes.errors import UserError

RATE = 8000


def speak(path, seconds=1.0):
    write_audio(path, 0.1 * np.random.default_rng(0).standard_normal(int(RATE * seconds)), RATE)


@pytest.fixture
def common_voice(tmp_path):
    """One language: four speakers, of whom one is in dev, and a clip that is not there."""
    folder = tmp_path / "cv-corpus" / "en"
    rows = {"train.tsv": [], "dev.tsv": [], "validated.tsv": []}
    for number in range(12):
        speaker, table = f"{number % 4:064x}", "dev.tsv" if number % 4 == 3 else "train.tsv"
        clip = f"common_voice_en_{number}.mp3"
        speak(folder / "clips" / clip.replace(".mp3", ".wav"))
        row = f"{speaker}\t{clip.replace('.mp3', '.wav')}\tSaid \"so\tno closing quote\t2\t0"
        rows[table].append(row)
        rows["validated.tsv"].append(row)
    rows["train.tsv"].append("f" * 64 + "\tmissing.mp3\tGone\t\t2\t0")
    for name, lines in rows.items():
        text = "\n".join(["client_id\tpath\tsentence\tnote\tup_votes\tdown_votes", *lines])
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    return folder


def test_a_store_of_common_voice_follows_its_table(common_voice, tmp_path):
    store = build_store(common_voice, tmp_path / "store", 8000)
    table = common_voice / "train.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith(f"{0:064x}")))
    assert set(store) - set(build_store(common_voice, tmp_path / "store", 8000)) == {f"{0:064x}"}


def test_common_voice_is_read_by_its_table(common_voice):
    speakers, skipped = scan_speakers(common_voice)
    assert list(speakers) == [f"{number:064x}" for number in range(3)]
    assert [len(utterances) for utterances in speakers.values()] == [3, 3, 3]
    assert speakers[f"{0:064x}"][0].path == "clips/common_voice_en_0.wav"
    assert [path for path, _ in skipped] == ["clips/missing.mp3"]
    assert len(scan_speakers(common_voice, tsv="validated.tsv")[0]) == 4
    (common_voice / "train.tsv").unlink()
    assert len(scan_speakers(common_voice)[0]) == 4


def test_tables_that_are_none_are_refused(common_voice):
    with pytest.raises(UserError, match=r"all\.tsv: cannot be read"):
        scan_speakers(common_voice, tsv="all.tsv")
    for text in ("client_id\tsentence\nab\tHi\n", "client_id\tpath\nab\n"):
        (common_voice / "other.tsv").write_text(text)
        with pytest.raises(UserError, match="is no table of Common Voice"):
            scan_speakers(common_voice, tsv="other.tsv")


def test_mix_command_takes_common_voice(common_voice, tmp_path, capsys):
    words = ["mix", str(common_voice), str(tmp_path / "out"), "--seconds", "0.5", "0.6"]
    assert main([*words, "--tsv", "dev.tsv", "--count", "tr=1"]) == 2
    assert "too few for mixtures of 2" in capsys.readouterr().err
    assert main([*words, "--tsv", "train.tsv", "--count", "tr=2"]) in (0, None)
    plans = (tmp_path / "out/2speakers/plans/tr.jsonl").read_text().splitlines()
    heard = {source["speaker"] for line in plans for source in json.loads(line)["sources"]}
    assert heard <= {f"{number:064x}" for number in range(3)}
    assert main([*words, "--list", "tr=a.txt", "--tsv", "train.tsv"]) == 2
    assert "--tsv: not with --list" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "wav48_silence_trimmed"])
def test_vctk_is_heard_through_its_first_microphone(tmp_path, below):
    for speaker, name in (("p225", "p225_001_mic1"), ("p225", "p225_001_mic2"),
                          ("p280", "p280_002_mic1"), ("s5", "s5_003_mic2")):
        speak(tmp_path / "wav48_silence_trimmed" / speaker / f"{name}.flac")
    (tmp_path / "txt" / "p225").mkdir(parents=True)
    speakers, _ = scan_speakers(tmp_path / below)
    assert {name: [u.path.split("/")[-1] for u in part] for name, part in speakers.items()} == {
        "p225": ["p225_001_mic1.flac"], "p280": ["p280_002_mic1.flac"],
        "s5": ["s5_003_mic2.flac"],  # better than nothing
    }


def test_speakers_of_one_utterance_are_to_be_divided_by_voices(tmp_path, capsys):
    for number in range(6):
        speak(tmp_path / "speakers" / str(number) / "only.wav")
    words = ["mix", str(tmp_path / "speakers"), str(tmp_path / "out"), "--count", "tr=2", "cv=2",
             "--seconds", "0.5", "0.6"]
    assert main(words) == 2
    assert "cv: only 0 of 6 speakers" in capsys.readouterr().err
    assert main([*words, "--split-by", "speaker"]) in (0, None)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_speech_that_only_ffmpeg_reads_is_mixed(tmp_path):
    speak(tmp_path / "speech/ann/1.wav", 0.5)
    (tmp_path / "speech/bob").mkdir()
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "speech/ann/1.wav", "-c:a", "aac",
                    tmp_path / "speech/bob/1.m4a"], check=True)
    plans = draw_plans(tmp_path / "speech", {"tr": 1}, 2, (0.3, 0.5))
    tree = render_plans(plans, tmp_path, tmp_path / "speech", [RATE])
    mixture, = tree.glob("wav8k/min/tr/mix/*.wav")
    assert "bob" in mixture.name


@pytest.mark.parametrize("speakers, utterances, said", [
    (2, 2, r"cv: only 0 of 2 speakers have enough utterances for every split \(3, one for each "
           r"of tr, cv, tt\); add utterances, or ask for fewer splits"),
    (6, 1, r"cv: only 0 of 6 speakers .*; divide by voices \(--split-by speaker\)"),
    (1, 9, r"1 speaker\(s\): too few for mixtures of 2; add a folder"),
])
def test_too_little_speech_for_all_splits_names_what_is_missing(
    tmp_path, speakers, utterances, said
):
    for number in range(speakers):
        for utterance in range(utterances):
            speak(tmp_path / f"{number}/{utterance}.wav", 0.2)
    with pytest.raises(UserError, match=said):
        draw_plans(tmp_path, {"tr": 1, "cv": 1, "tt": 1}, 2, (0.2, 0.3))


@pytest.fixture(params=["with ffmpeg", "without ffmpeg"])
def ffmpeg(request, monkeypatch):
    """True if ffmpeg seems to be installed."""
    installed = request.param == "with ffmpeg"
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if installed else None)
    return installed


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)


def listed(find, folder):
    """Paths that are found in a folder, after the others have been reported."""
    recordings, passed_over = find(folder)
    report_passed_over(folder, passed_over)
    return [path for _, path in recordings]


FINDERS = {
    "speech": partial(listed, find_speech),
    "noise": partial(listed, find_files),
    "mixtures": lambda folder: [file for mixture in paired_files(folder, ["ann"])
                                for file in mixture.files],
}


@pytest.mark.parametrize("finder", FINDERS)
def test_every_finder_takes_all_audio_that_can_be_read_and_counts_the_rest(
    tmp_path, capsys, finder, ffmpeg
):
    (tmp_path / "ann").mkdir()
    for number, suffix in enumerate(SNDFILE_SUFFIXES + FFMPEG_SUFFIXES):
        (tmp_path / f"ann/{number}{suffix.upper()}").touch()
    found = FINDERS[finder](tmp_path)
    assert len(found) == len(SNDFILE_SUFFIXES) + ffmpeg * len(FFMPEG_SUFFIXES)
    said = f"passed over {len(FFMPEG_SUFFIXES)} file(s): 1 .m4a, 1 .mp4"
    assert ffmpeg != (said in capsys.readouterr().err)


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".webm", ".amr", ".wma", ".aac", ".raw", ""])
@pytest.mark.parametrize("finder", FINDERS)
def test_every_finder_counts_and_names_what_it_passes_over(
    tmp_path, capsys, finder, suffix, no_ffmpeg
):
    (tmp_path / "ann").mkdir()
    for number in range(3):
        (tmp_path / f"ann/{number}{suffix}").touch()
    for number, audio in enumerate(SNDFILE_SUFFIXES):
        (tmp_path / f"ann/sound {number}{audio}").touch()
    assert len(FINDERS[finder](tmp_path)) == len(SNDFILE_SUFFIXES)
    line, = capsys.readouterr().err.splitlines()
    kind = suffix or "without suffix"
    assert line == f"{tmp_path}: passed over 3 file(s): 3 {kind}, such as ann/0{suffix}"


def test_a_store_names_what_it_passes_over_once_and_counts_it_always(tmp_path, capsys, no_ffmpeg):
    speak(tmp_path / "speech/ann/1.wav")
    (tmp_path / "speech/ann/2.m4a").touch()
    for said in (1, 0):
        store = build_store(tmp_path / "speech", tmp_path / "store", RATE)
        assert capsys.readouterr().err.count("passed over 1 file(s): 1 .m4a") == said
        assert str(store).endswith("in 1 recordings, 1 other file(s) passed over")


def test_mixtures_are_paired_by_name_and_what_a_part_lacks_is_named(tmp_path):
    for name in ("mix/a.wav", "s1/c.flac"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert {mixture.name: [file.relative_to(tmp_path).as_posix() for file in mixture.files]
            for mixture in paired_files(tmp_path, ["mix", "s1"])} == {
        "a": ["mix/a.wav", "s1/a.wav"], "c": ["mix/c.wav", "s1/c.flac"]}


def test_what_is_passed_over_in_a_corpus_folder_is_counted_and_named(tmp_path, capsys, no_ffmpeg):
    for name in ("mix/a.WAV", "s1/a.aiff", "s2/a.caf", "mix/b.m4a", "s1/b.m4a", "s2/b.m4a",
                 "mix/readme", "mix/deeper/c.wav", "mix/.hidden.m4a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    mixture, = paired_files(tmp_path, ["mix", "s1", "s2"])
    assert [file.name for file in mixture.files] == ["a.WAV", "a.aiff", "a.caf"]
    assert capsys.readouterr().err == (
        f"{tmp_path}: passed over 5 file(s): 3 .m4a, 2 without suffix, such as mix/b.m4a\n")


def test_what_mixing_passes_over_is_counted_and_named(tmp_path, capsys, no_ffmpeg):
    for name in ("ann/1.wav", "ann/2.w64", "bob/deep/3.au"):
        speak(tmp_path / name)
    for name in ("ann/4.m4a", "bob/5.wma", "bob/list.txt", "ann/6.wv2", "stray.wav"):
        (tmp_path / name).touch()
    (tmp_path / "ann/6.wv1").touch()
    speakers, skipped = scan_speakers(tmp_path)
    assert [[u.path for u in part] for part in speakers.values()] == [
        ["ann/1.wav", "ann/2.w64"], ["bob/deep/3.au"]]
    assert [path for path, _ in skipped] == ["ann/6.wv1"]
    line, = capsys.readouterr().err.splitlines()
    assert line == (f"{tmp_path}: passed over 4 file(s): 1 .m4a, 1 .wma, 1 .txt, 1 .wav, such as "
                    "ann/4.m4a")


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check its perm"):
        audio_files(tmp_path)
