"""Trees of mixtures and their manifests: resuming, exact sums, and all that can be wrong in one."""

import csv
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from speechbrain.dataio.dataset import DynamicItemDataset

from papez_lobes.cli.main import main
from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora import wsj0mix
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.data.datasets import SeparationDataset
from papez_lobes.data.mixtures import trees
from papez_lobes.data.mixtures.plans import MixturePlan, plan_mixtures
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.speakers import scan_speakers
from papez_lobes.data.mixtures.trees import draw_plans, render_plans
from papez_lobes.errors import UserError

RATE = 8000
SHORT = (0.3, 0.5)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for speaker in ("ann", "bob", "carla"):
        for number in range(5):
            write_audio(folder / speaker / f"{number}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    return folder


@pytest.fixture(scope="module")
def plans(speech):
    speakers, _ = scan_speakers(speech)
    return {split: plan_mixtures(speakers, 4, 2, SHORT, seed=(0, number))
            for number, split in enumerate(("tr", "cv", "tt"))}


@pytest.fixture
def tree(speech, plans, tmp_path):
    return render_plans(plans, tmp_path, speech, [RATE])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def test_files_hold_the_rendered_plans_each_rounded_by_itself(tree, speech, plans):
    for plan in plans["tt"]:
        files = wsj0mix.mixture_files(tree / "wav8k" / "min" / "tt", plan.name, 2)
        mixture, *sources = (soundfile.read(file, dtype="int16")[0].astype(int) for file in files)
        rendered, parts = render(plan, RATE, speech)
        for written, wanted in zip([mixture, *sources], [rendered, *parts.T]):
            np.testing.assert_array_equal(written, np.rint(2**15 * wanted))
        assert np.abs(sum(sources) - mixture).max() == 1  # (C + 1) / 2 at most


def test_an_interrupted_tree_is_completed_to_the_same_files(
    speech, plans, tree, tmp_path, monkeypatch
):
    broken = tmp_path / "broken" / "2speakers"
    written = []

    def crash(path, *arguments, **options):
        if len(written) == 17:  # within the second split, between two files of one mixture
            path.with_name(f".{path.name}.1.tmp").write_bytes(b"half")  # as a killed run leaves it
            raise KeyboardInterrupt
        written.append(path)
        write_audio(path, *arguments, **options)

    monkeypatch.setattr(trees, "write_audio", crash)
    with pytest.raises(KeyboardInterrupt):
        render_plans(plans, broken.parent, speech, [RATE])
    monkeypatch.undo()
    assert contents(broken) != contents(tree)
    before = {path: path.stat().st_mtime_ns for path in written[:15]}
    render_plans(plans, broken.parent, speech, [RATE])
    assert contents(broken) == contents(tree)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_processes_write_the_same_files_and_tell_of_bad_ones(speech, plans, tree, tmp_path):
    root, parallel = tmp_path / "speech", tmp_path / "parallel" / "2speakers"
    shutil.copytree(speech, root)
    missing = root / plans["tt"][1].sources[0].pieces[0].path
    kept = missing.rename(tmp_path / "kept.wav")
    with pytest.raises(UserError, match=rf"{missing.name}: no such file"):
        render_plans(plans, parallel.parent, root, [RATE], jobs=2)
    assert not (parallel / f"wav8k/min/tt/mix/{plans['tt'][1].name}.wav").exists()
    kept.rename(missing)
    render_plans(plans, parallel.parent, root, [RATE])
    assert contents(parallel) == contents(tree)


def test_a_tree_is_only_continued_with_its_own_plans(tree, speech, plans):
    speakers, _ = scan_speakers(speech)
    before = contents(tree)
    for other in (plan_mixtures(speakers, 4, 2, SHORT, seed=9), plans["tr"][:2]):
        with pytest.raises(UserError, match="mixtures of another plan"):
            render_plans({"tr": other}, tree.parent, speech, [RATE])
    assert contents(tree) == before
    more = plan_mixtures(speakers, 6, 2, SHORT, seed=(0, 0))
    render_plans({"tr": more}, tree.parent, speech, [RATE])
    after = contents(tree)
    assert len(after) == len(before) + 2 * 3
    shutil.rmtree(tree / "plans")  # as in a real WSJ0-mix tree, which is not ours to add to
    with pytest.raises(UserError, match="another plan"):
        render_plans(plans, tree.parent, speech, [RATE])


def test_plans_of_which_nothing_was_made_give_way(speech, plans, tmp_path):
    folder = tmp_path / "2speakers"
    with pytest.raises(UserError, match=r"no such file.*With a good file in its place"):
        render_plans({"tr": plans["tr"]}, tmp_path, tmp_path / "nowhere", [RATE])
    assert (folder / "plans" / "tr.jsonl").is_file()
    render_plans({"tr": plans["cv"]}, tmp_path, speech, [RATE])
    with pytest.raises(UserError, match="another plan"):  # at another rate neither
        render_plans({"tr": plans["tr"]}, tmp_path, speech, [16000])


def test_manifests_are_read_by_speechbrain(tree, tmp_path):
    manifests = prepare_wsj0mix(f"{tree}/", tmp_path / "save", 2)
    assert list(manifests) == ["tr", "cv", "tt"]
    assert manifests["cv"] == tmp_path / "save" / "wsj0mix_cv.csv"
    dataset = DynamicItemDataset.from_csv(str(manifests["cv"]))
    dataset.set_output_keys(["id", "duration", "mix_wav", "s1_wav", "s2_wav"])
    items = list(dataset)
    assert [item["id"] for item in items] == sorted(item["id"] for item in items)
    for item in items:
        assert os.path.isabs(item["mix_wav"])
        info = soundfile.info(item["s2_wav"])
        assert item["duration"] == info.frames / info.samplerate
        assert item["mix_wav"].endswith(f"/cv/mix/{item['id']}.wav")


@pytest.mark.parametrize("num_spks, rate", [(1, 8000), (3, 16000)])
def test_other_numbers_of_speakers_and_rates_are_prepared(speech, tmp_path, num_spks, rate):
    plans = draw_plans(speech, {"tt": 2}, num_spks, SHORT)
    tree = render_plans(plans, tmp_path, speech, [rate])
    assert tree == tmp_path / f"{num_spks}speakers"
    manifests = prepare_wsj0mix(tree, tmp_path / "save", num_spks, rate, splits=("tt",))
    with open(manifests["tt"], newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ID", "duration", "mix_wav",
                      *(f"s{number}_wav" for number in range(1, num_spks + 1))]
    assert len(rows) == 2


@pytest.mark.parametrize("num_spks", [1, 10])
def test_one_and_ten_speakers_go_through_mixing_manifests_and_items(tmp_path, num_spks):
    rng = np.random.default_rng(0)
    for speaker in range(num_spks):
        name = f"a rather long name of the speaker {speaker} 話者"
        samples = 0.1 * rng.standard_normal(RATE)
        write_audio(tmp_path / "speech" / name / "1.wav", samples, RATE)
    words = ["mix", str(tmp_path / "speech"), str(tmp_path), "--num-spks", str(num_spks),
             "--count", "tr=3", "--seconds", "0.3", "0.5"]
    assert main(words) in (0, None)
    tree = tmp_path / f"{num_spks}speakers"
    manifest = prepare_wsj0mix(tree, tmp_path, num_spks, splits=["tr"], check_sums="error")["tr"]
    with open(manifest, newline="") as file:
        header, *rows = csv.reader(file)
    parts = ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]
    assert header == ["ID", "duration", *(f"{part}_wav" for part in parts)]
    for row, item in zip(rows, SeparationDataset(manifest, num_spks, RATE), strict=True):
        assert [path.split("/")[-2] for path in row[2:]] == parts
        last, _ = soundfile.read(row[-1], dtype="float32")
        np.testing.assert_array_equal(item["sources"][:, -1], last)


HOSTILE = ["../../outside", "..", "/outside", "a/../../../outside", "~/outside", "C:\\outside"]


def everything_below(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_lists_never_write_outside_the_output_folder(tmp_path, name, monkeypatch):
    speech = tmp_path / "corpora/speech"
    path = name if name.startswith("/") else f"{name}.wav"
    listed = speech / (f"{tmp_path}/elsewhere.wav" if name.startswith("/") else path)
    listed.parent.mkdir(parents=True, exist_ok=True)
    write_audio(listed, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (tmp_path / "list.txt").write_text(f"{str(listed) if name[0] == '/' else path} 0\n")
    before = everything_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["mix", str(speech), str(tmp_path / "out"), "--list", f"tr={tmp_path / 'list.txt'}"]
    assert main(words) in (0, None)
    written = everything_below(tmp_path) - before
    assert written and all((tmp_path / "out/1speakers") in path.parents for path in written)


@pytest.mark.parametrize("name", HOSTILE)
def test_speakers_in_tables_never_write_outside_the_output_folder(tmp_path, name):
    speech = tmp_path / "cv"
    write_audio(speech / "clips/1.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (speech / "train.tsv").write_text(f"client_id\tpath\n{name}\t1.wav\n")
    before = everything_below(tmp_path)
    words = ["mix", str(speech), str(tmp_path / "out"), "--num-spks", "1", "--count", "tr=1",
             "--seconds", "0.3", "0.3"]
    assert main(words) in (0, None)
    written = everything_below(tmp_path) - before
    assert written and all((tmp_path / "out/1speakers") in path.parents for path in written)


@pytest.mark.parametrize("name", [*HOSTILE[:1], *HOSTILE[2:], "", "a\0b"])
def test_names_of_plans_never_lead_out_of_the_output_folder(speech, plans, tmp_path, name):
    plan = replace(plans["tr"][0], name=name)
    with pytest.raises(UserError, match="cannot be the name of a mixture's files"):
        render_plans({"tr": [plan]}, tmp_path / "out", speech, [RATE])
    assert not list(tmp_path.rglob("*.wav"))


def refused(said, *arguments, **keywords):
    with pytest.raises(UserError, match=said) as caught:
        prepare_wsj0mix(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_refused(tree, tmp_path):
    save = tmp_path / "save"
    refused(r"nowhere: no such folder; set data_folder", tmp_path / "nowhere", save, 2)
    refused(r"no wav8k/min/tr/mix; did you mean \S+2speakers\?", tree.parent, save, 2)
    refused(r"no wav16k/min/tr/mix; check data_folder", tree, save, 2, sample_rate=16000)
    refused(r"no wav8k/max/tr/mix", tree, save, 2, version="max")
    shutil.rmtree(tree / "wav8k/min/cv/mix")
    refused(r"no wav8k/min/cv/mix", tree, save, 2)
    shutil.move(tree, tmp_path / "$data")
    refused(r"cannot hold a path with a \$", tmp_path / "$data", save, 2)
    assert not save.exists()


def test_wrong_number_of_speakers_is_refused(tree, speech, tmp_path):
    refused(r"mixtures of 2 speaker\(s\), but num_spks is 3", tree, tmp_path, 3)
    plans = draw_plans(speech, {"tr": 1, "cv": 1, "tt": 1}, 3, SHORT)
    three = render_plans(plans, tmp_path, speech, [8000])
    refused(r"mixtures of 3 speaker\(s\), but num_spks is 2", three, tmp_path, 2)


def test_incomplete_splits_are_refused(tree, tmp_path):
    split = tree / "wav8k" / "min" / "tt"
    first, second, *_ = sorted(path.name for path in (split / "mix").iterdir())
    (split / "s2" / first).unlink()
    (split / "mix" / second).unlink()
    refused(r"wsj0mix_tt_problems.txt: lists 2 problem\(s\)", tree, tmp_path, 2)
    listed = (tmp_path / "wsj0mix_tt_problems.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == [
        str(split / "s2" / first), str(split / "mix" / second)]
    for part in ("mix", "s1", "s2"):
        for file in (split / part).iterdir():
            file.unlink()
    refused(r"wsj0mix_tt: holds no mixtures; this split is empty", tree, tmp_path, 2)


def test_wrong_audio_is_refused(tree, tmp_path):
    source = tree / "wav8k" / "min" / "tr" / "s1"
    files = sorted(source.iterdir())
    for file in files:
        samples, _ = soundfile.read(file)
        write_audio(file, samples[:-1], RATE)
    refused(r"lists 4 problem\(s\) .* lengths differ \(mix \d+, s1 \d+, s2", tree, tmp_path, 2)
    soundfile.write(files[0], np.zeros((800, 2)), RATE)
    refused(r"has 2 channels", tree, tmp_path, 2)
    write_audio(files[0], np.zeros(800), 16000)
    refused(r"is sampled at 16000 Hz, not 8000", tree, tmp_path, 2)
    files[0].write_bytes(files[1].read_bytes()[:1000])
    refused(r"is truncated", tree, tmp_path, 2)
    assert not (tmp_path / "wsj0mix_tr.csv").exists()


def test_skip_prep_trusts_what_is_there(tree, tmp_path):
    refused("no such manifest; run once without skip_prep", tree, tmp_path, 2, skip_prep=True)
    manifests = prepare_wsj0mix(tree, tmp_path, 2)
    shutil.rmtree(tree)
    assert prepare_wsj0mix(tree, tmp_path, 2, skip_prep=True) == manifests


def test_the_mix_command_writes_a_tree_whose_splits_share_no_file(speech, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["mix", str(speech), str(out), "--count", "tr=3", "tt=2", "--seconds", "0.3", "0.4"]
    assert main(words) in (0, None)
    assert capsys.readouterr().out.strip() == str(out / "2speakers")
    split = out / "2speakers" / "wav8k" / "min"
    assert sorted(os.listdir(split)) == ["tr", "tt"]
    assert len(os.listdir(split / "tr" / "mix")) == 3
    train, test = (used_files(out / "2speakers" / "plans" / f"{name}.jsonl")
                   for name in ("tr", "tt"))
    assert train and test and not train & test


def used_files(plan_file):
    plans = map(MixturePlan.from_json, plan_file.read_text(encoding="utf-8").splitlines())
    return {piece.path for plan in plans for source in plan.sources for piece in source.pieces}


@pytest.mark.parametrize("wrong, said", [
    (["--count", "tr=many"], "write it as tr=20000"),
    (["--count", "tr=0"], "1 or more"),
    (["--seconds", "8", "4"], "shortest first"),
    (["--seconds", "1", "inf"], "finite"),
    (["--seconds", "nan", "nan"], "finite"),
    (["--num-spks", "4"], "too few for mixtures of 4"),
    (["--sample-rate", "11025"], "multiple of 1000"),
    (["--split-by", "speaker"], "too few for 2 different ones"),
    (["--seed", "-1"], "0 or more"),
])
def test_the_mix_command_refuses_in_one_line(speech, tmp_path, capsys, wrong, said):
    try:
        status = main(["mix", str(speech), str(tmp_path / "out"), *wrong])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
