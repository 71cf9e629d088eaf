"""What every corpus has in common: manifests made once, every bad file found in time."""

import os
import re

import numpy as np
import pytest
import soundfile
from speechbrain.dataio.dataset import DynamicItemDataset

from papez_lobes.data import inspection, manifests
from papez_lobes.data.audio import write_audio
from papez_lobes.data.folders import paired_files
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

RATE = 8000
PARTS = ("mix", "s1", "s2")


@pytest.fixture
def folder(tmp_path):
    """A split of five mixtures."""
    rng = np.random.default_rng(0)
    for number in range(5):
        sources = 0.1 * rng.standard_normal((2, 800 + number))
        for part, samples in zip(PARTS, [sources.sum(axis=0), *sources]):
            path = tmp_path / "tr" / part / f"m{number}.wav"
            write_audio(path, samples, RATE, sync=False)
    return tmp_path / "tr"


def prepare(folder, **options):
    def find(split):
        return paired_files(folder.with_name(split), PARTS)

    options = {"splits": ["tr"], "num_spks": 2, "sample_rate": RATE, **options}
    return prepare_manifests("mine", find, folder.parent / "save", **options)


def read(manifest):
    dataset = DynamicItemDataset.from_csv(str(manifest))
    dataset.set_output_keys(["id", "duration", "mix_wav", "s1_wav", "s2_wav"])
    return list(dataset)


def problems_of(folder, **options):
    """The lines of the problems file, after the run has ended in one line."""
    with pytest.raises(UserError) as caught:
        prepare(folder, **options)
    assert "\n" not in str(caught.value)
    path = folder.parent / "save" / "mine_tr_problems.txt"
    assert str(path) in str(caught.value)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"lists {len(lines)} problem(s)" in str(caught.value)
    assert not (folder.parent / "save" / "mine_tr.csv").exists()
    return lines


def corrupt(name):
    """Spoils a file of 800 samples or so in the way of that name."""
    def spoil(path):
        samples, _ = soundfile.read(path)
        if name == "missing":
            path.unlink()
        elif name == "empty":
            path.write_bytes(b"")
        elif name == "no samples":
            soundfile.write(path, samples[:0], RATE)
        elif name == "text":
            path.write_text("not audio")
        elif name == "truncated":
            path.write_bytes(path.read_bytes()[:-50])
        elif name == "rate":
            write_audio(path, samples, 16000)
        elif name == "stereo":
            soundfile.write(path, np.stack([samples, samples], axis=1), RATE)
        elif name == "shorter":
            write_audio(path, samples[:-1], RATE)
        elif name == "silent":
            write_audio(path, 0 * samples, RATE)
        elif name == "nan":
            samples[7] = np.nan
            soundfile.write(path, samples, RATE, subtype="FLOAT")
        elif name == "infinite":
            samples[7] = -np.inf
            soundfile.write(path, samples, RATE, subtype="FLOAT")
    return spoil


REASONS = {
    "missing": "no such file", "empty": "is empty", "no samples": "holds no samples",
    "text": "not an audio file", "truncated": r"is truncated \(", "rate": "16000 Hz, not 8000",
    "stereo": "has 2 channels", "shorter": r"lengths differ \(mix \d+, s1 \d+, s2 \d+ samples\)",
    "silent": "is silent", "nan": "NaN or infinite", "infinite": "NaN or infinite",
}


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("part", PARTS)
def test_each_kind_of_bad_file_is_found_and_can_be_left_out(folder, kind, part):
    bad = folder / part / "m2.wav"
    corrupt(kind)(bad)
    line, = problems_of(folder)
    named = folder / "mix" / "m2.wav" if kind == "shorter" else bad
    assert line.startswith(f"{named}: ") and re.search(REASONS[kind], line)
    kept = read(prepare(folder, leave_out_damaged=True)["tr"])
    assert [item["id"] for item in kept] == ["m0", "m1", "m3", "m4"]


def test_all_problems_of_all_splits_are_listed_and_a_few_shown(folder, capsys):
    write_audio(folder.with_name("cv") / "mix" / "a.wav", np.ones(9), RATE)
    for part in PARTS[1:]:
        (folder.with_name("cv") / part).mkdir()
    for kind, name in zip(REASONS, ("m0", "m1", "m2", "m3")):
        corrupt(kind)(folder / "s1" / f"{name}.wav")
    corrupt("silent")(folder / "mix" / "m4.wav")
    corrupt("nan")(folder / "s2" / "m4.wav")
    with pytest.raises(UserError, match=r"mine_tr_problems.txt, \S+mine_cv_problems.txt: lists 8"):
        prepare(folder, splits=["tr", "cv"])
    assert len((folder.parent / "save/mine_tr_problems.txt").read_text().splitlines()) == 6
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3 + 1 + 2 and shown[3] == "..."


def test_left_out_mixtures_are_counted_each_time(folder, capsys):
    corrupt("silent")(folder / "s1" / "m0.wav")
    prepare(folder, leave_out_damaged=True)
    assert "1 of 5 mixtures left out, listed in mine_tr_problems.txt" in capsys.readouterr().out
    prepare(folder, leave_out_damaged=True)
    assert "1 of 5 mixtures left out" in capsys.readouterr().out
    assert len(problems_of(folder)) == 1  # another setting is another manifest
    for number in range(5):
        corrupt("silent")(folder / "s1" / f"m{number}.wav")
    with pytest.raises(UserError, match=r"lists all 5 mixture\(s\) of this split"):
        prepare(folder, leave_out_damaged=True)


def test_headers_alone_do_not_show_what_samples_hold(folder):
    corrupt("silent")(folder / "s1" / "m0.wav")
    corrupt("nan")(folder / "s1" / "m1.wav")
    assert len(read(prepare(folder, check_audio=False)["tr"])) == 5
    assert len(problems_of(folder)) == 2


def test_what_only_decoding_shows(folder):
    for part in PARTS:
        path = folder / part / "m4.wav"
        samples = np.tile(soundfile.read(path)[0], 100)
        write_audio(path.with_suffix(".flac"), samples, RATE)
        path.unlink()
    damaged = folder / "s2" / "m4.flac"
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    assert len(read(prepare(folder, check_audio=False)["tr"])) == 5
    line, = problems_of(folder)
    assert line.startswith(f"{damaged}: is ")


def test_durations_are_those_of_the_files_in_any_format(folder):
    for number, subtype in enumerate(("PCM_16", "PCM_24", "FLOAT", "PCM_U8")):
        for part in PARTS:
            path = folder / part / f"m{number}.wav"
            soundfile.write(path, soundfile.read(path)[0], RATE, subtype=subtype)
    for part in PARTS:
        path = folder / part / "m4.wav"
        write_audio(path.with_suffix(".flac"), soundfile.read(path)[0], RATE)
        path.unlink()
    items = read(prepare(folder)["tr"])
    assert [item["duration"] for item in items] == [(800 + n) / RATE for n in range(5)]
    assert items[4]["s2_wav"] == str(folder / "s2" / "m4.flac")


@pytest.mark.parametrize("name", [
    "two words", "Zoë 混合", "a,b", 'say "yes"', "it's", "a.b.c", "#1", "$ 100", "a\u00a0b",
])
def test_odd_names_are_read_back(folder, name):
    for part in PARTS:
        (folder / part / "m3.wav").rename(folder / part / f"{name}.wav")
    items = {item["id"]: item for item in read(prepare(folder)["tr"])}
    assert items[name]["mix_wav"] == str(folder / "mix" / f"{name}.wav")


@pytest.mark.parametrize("name", [b"a$b", b"\xff\xfe", b" m1"])
def test_names_that_manifests_cannot_hold_are_refused(folder, name):
    for part in PARTS:
        os.rename(folder / part / "m3.wav", os.fsencode(folder / part) + b"/" + name + b".wav")
    reasons = {line.rpartition(": ")[2].partition(";")[0] for line in problems_of(folder)}
    assert len(reasons) == 1 and re.search(r"with a \$|not UTF-8|more than once", reasons.pop())
    assert len(read(prepare(folder, leave_out_damaged=True)["tr"])) == (3 if name == b" m1" else 4)


def test_two_files_of_one_name_are_refused(folder):
    write_audio(folder / "mix" / "m1.flac", np.ones(9), RATE)
    line, = problems_of(folder)
    assert "has the name of m1.wav" in line


def counting(monkeypatch):
    opened = []
    real = inspection.audio_info
    monkeypatch.setattr(inspection, "audio_info", lambda path: opened.append(path) or real(path))
    return opened


def test_an_unchanged_folder_is_not_read_again(folder, monkeypatch, capsys):
    opened = counting(monkeypatch)
    manifest = prepare(folder)["tr"]
    before = manifest.read_bytes(), manifest.stat().st_mtime_ns
    assert len(opened) == 15
    assert prepare(folder)["tr"] == manifest
    assert len(opened) == 15 and (manifest.read_bytes(), manifest.stat().st_mtime_ns) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("change", [
    "another file", "a file less", "another length", "another time", "a manifest edited",
    "a record lost", "a record damaged", "another setting",
])
def test_a_change_is_noticed(folder, monkeypatch, capsys, change):
    manifest = prepare(folder)["tr"]
    opened, options = counting(monkeypatch), {}
    for part in PARTS:
        path = folder / part / "m0.wav"
        if change == "another file":
            write_audio(folder / part / "new.wav", soundfile.read(path)[0], RATE)
        elif change == "a file less":
            path.unlink()
        elif change == "another length":
            times = path.stat()
            write_audio(path, soundfile.read(path)[0][:500], RATE)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        elif change == "another time":
            os.utime(path, ns=(1, 1))
    if change == "a manifest edited":
        manifest.write_text(manifest.read_text().replace("0.1", "0.2"))
    elif change == "a record lost":
        manifest.with_suffix(".json").unlink()
    elif change == "a record damaged":
        manifest.with_suffix(".json").write_text("[1, 2")
    elif change == "another setting":
        options = {"check_audio": False}
    prepare(folder, **options)
    wanted = {"another file": 18, "a file less": 12}.get(change, 15)
    assert len(opened) == wanted and len(read(manifest)) == wanted // 3
    assert "have changed; it is made again" in capsys.readouterr().out


def test_an_interruption_leaves_no_manifest(folder, monkeypatch):
    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(inspection, "audio_info", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder)
    assert not (folder.parent / "save" / "mine_tr.csv").exists()
    monkeypatch.undo()
    prepare(folder)
    assert sorted(os.listdir(folder.parent / "save")) == ["mine_tr.csv", "mine_tr.json"]


def test_a_folder_that_cannot_be_written_to_shows_before_the_work(folder, monkeypatch):
    opened = counting(monkeypatch)
    (folder.parent / "save").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(folder)
    assert opened == []


def test_skip_prep_takes_only_manifests_of_as_many_speakers(folder):
    manifest = prepare(folder)
    assert prepare(folder, skip_prep=True) == manifest
    with pytest.raises(UserError, match=r"not a manifest of 3 speaker\(s\)"):
        prepare(folder, skip_prep=True, num_spks=3)


@pytest.mark.parametrize("content, said", [
    (b"ID,duration,mix_wav,s1_wav,s2_wav\n", "holds no mixtures, only a header"),
    (b"", "is not a manifest"), (b"\xff\xfe\0", "is not a manifest"),
    (b"ID,duration,mix_wav,s1_wav,s2_wav\na,0.1,/m.wav,/s1.wav\n", "is damaged in line 2"),
    (b"ID,duration,mix_wav,s1_wav,s2_wav\na,long,/m.wav,/s1.wav,/s2.wav\n", "damaged in line 2"),
])
def test_skip_prep_refuses_a_manifest_that_nothing_can_be_read_from(folder, content, said):
    manifest = prepare(folder)["tr"]
    manifest.write_bytes(content)
    with pytest.raises(UserError, match=rf"mine_tr\.csv: .*{said}.*; run once without skip_prep"):
        prepare(folder, skip_prep=True)


def test_skip_prep_refuses_a_manifest_of_other_data(folder):
    about = {"data_folder": "/speech", "version": "min"}
    prepare(folder, about=about)
    assert prepare(folder, about=about, skip_prep=True)
    for name, other in (("data_folder", "/other"), ("version", "max")):
        with pytest.raises(UserError, match=f"was made with {name} {about[name]}, not {other}"):
            prepare(folder, about=about | {name: other}, skip_prep=True)
    with pytest.raises(UserError, match="was made with sample_rate 8000, not 16000"):
        prepare(folder, about=about, sample_rate=16000, skip_prep=True)
    (folder.parent / "save" / "mine_tr.json").unlink()  # as for a manifest that the user wrote
    assert prepare(folder, about={"data_folder": "/other"}, skip_prep=True)


def rescale(path, factor):
    samples, _ = soundfile.read(path)
    write_audio(path, factor * samples, RATE)


def test_a_mis_scaled_source_is_found_and_the_worst_named(folder, capsys):
    rescale(folder / "s1" / "m1.wav", 0.98)
    rescale(folder / "s2" / "m3.wav", 0.5)
    warning = rf"2 mixture\(s\) are not the sum .* is {folder}/mix/m3\.wav, off by up to 0\.\d+ of"
    for _ in range(2):  # made, then kept
        assert len(read(prepare(folder)["tr"])) == 5
        line, = [line for line in capsys.readouterr().out.splitlines() if "made again" not in line]
        assert re.search(warning, line)
    lines = problems_of(folder, check_sums="error")
    assert [line.partition(":")[0] for line in lines] == [
        f"{folder}/mix/m1.wav", f"{folder}/mix/m3.wav"]
    assert all("is not the sum of its sources (off by up to" in line for line in lines)
    left = read(prepare(folder, check_sums="error", leave_out_damaged=True)["tr"])
    assert [item["id"] for item in left] == ["m0", "m2", "m4"]
    capsys.readouterr()
    for off in ("off", False):  # as YAML reads it
        prepare(folder, check_sums=off)
    assert "not the sum" not in capsys.readouterr().out


def test_a_swapped_source_is_found(folder):
    for number in (0, 1):  # of one length
        for part in PARTS:
            path = folder / part / f"m{number}.wav"
            write_audio(path, soundfile.read(path)[0][:800], RATE)
    first, second = (folder / "s2" / f"m{number}.wav" for number in (0, 1))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert len(problems_of(folder, check_sums="error")) == 2


def test_16_bit_rounding_is_no_fault_whatever_the_number_of_speakers(tmp_path):
    rng = np.random.default_rng(0)
    for num_spks in (1, 2, 3, 5):
        parts = ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]
        split = tmp_path / str(num_spks) / "tr"
        for number in range(5):
            sources = 0.1 * rng.standard_normal((num_spks, 4000))
            for part, samples in zip(parts, [sources.sum(axis=0), *sources]):
                write_audio(split / part / f"{number}.wav", samples, RATE, sync=False)
        prepare_manifests(
            "mine", lambda _, split=split, parts=parts: paired_files(split, parts),
            split.parent / "save", num_spks, RATE, splits=["tr"], check_sums="error",
        )


def test_sums_are_sampled_where_headers_alone_are_read(folder, monkeypatch, capsys):
    monkeypatch.setattr(manifests, "SUMS_CHECKED", 2)
    decoded = []
    real = inspection.read_audio
    monkeypatch.setattr(inspection, "read_audio", lambda path: decoded.append(path) or real(path))
    rescale(folder / "s1" / "m3.wav", 0.5)
    corrupt("nan")(folder / "s1" / "m0.wav")
    prepare(folder, check_audio=False)
    assert {path.stem for path in decoded} == {"m0", "m3"}
    assert "1 mixture(s) are not the sum" in capsys.readouterr().out
    decoded.clear()
    prepare(folder, check_audio=False, check_sums="off")
    assert decoded == []


def test_an_unknown_check_of_sums_is_refused(folder):
    with pytest.raises(UserError, match="check_sums 'yes': must be one of warn, error, off"):
        prepare(folder, check_sums="yes")


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no mixtures; this split is empty"):
        prepare_manifests("mine", lambda split: [], tmp_path, 2, RATE)


def test_mixtures_that_are_sums_are_made_and_made_again(folder, tmp_path):
    made = tmp_path / "save" / "mixtures"

    def find(split):
        return [Mixture(f"m{n}", (made / f"m{n}.wav", *(folder / s / f"m{n}.wav"
                                                       for s in PARTS[1:])), summed=True)
                for n in range(5)]

    def run(**options):
        return prepare_manifests("sum", find, tmp_path / "save", 2, RATE, splits=["tr"],
                                 **options)

    run(check_audio=False)
    for number in range(5):
        mixture, first, second = (soundfile.read(path, dtype="float32")[0]
                                  for path in find("tr")[number].files)
        np.testing.assert_array_equal(mixture, first + second)
    times = [path.stat().st_mtime_ns for path in sorted(made.iterdir())]
    run(check_audio=False)
    assert times == [path.stat().st_mtime_ns for path in sorted(made.iterdir())]
    (made / "m4.wav").unlink()
    run(check_audio=False)
    assert (made / "m4.wav").is_file()
    write_audio(folder / "s1" / "m0.wav", -soundfile.read(folder / "s2" / "m0.wav")[0], RATE)
    with pytest.raises(UserError, match="would be silent, as the sources cancel"):
        run()
