"""WSJ0-mix made from lists: against a calculation of its own, and the command that makes it."""

import csv
import os

import numpy as np
import pytest
import soundfile

from papez_lobes.cli.main import main
from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.data.mixtures.levels import active_speech_level
from papez_lobes.data.mixtures.lists import read_list

LISTS = {
    2: "wsj0/si_et_05/445/445c0206.wav 0.60431 wsj0/si_et_05/22g/22gc0105.wav -0.60431\n"
       "wsj0/si_et_05/22g/22gc0105.wav 1.9 wsj0/si_tr_s/011/011c0201.wav -1.9\n",
    3: "wsj0/si_tr_s/011/011c0201.wav 2.2 wsj0/si_et_05/445/445c0206.wav -2.2 "
       "wsj0/si_et_05/22g/22gc0105.wav 0\n",
}


@pytest.fixture(scope="module")
def wsj0(tmp_path_factory):
    """A folder with three utterances at 16 kHz: SPHERE, flac and wav; odd lengths."""
    folder = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    for name, count, audio_format in (
        ("si_et_05/445/445c0206.wv1", 21001, "NIST"), ("si_et_05/22g/22gc0105.flac", 33334, "FLAC"),
        ("si_tr_s/011/011c0201.wav", 27777, "WAV"),
    ):
        loudness = np.repeat(rng.uniform(0.01, 0.15, 60) ** 2, 800)[:count]
        path = folder / "wsj0" / name
        path.parent.mkdir(parents=True)
        samples = 5 * loudness * np.convolve(rng.standard_normal(count + 3), [1, 1, 1, 1], "valid")
        soundfile.write(path, samples, 16000, format=audio_format, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    for num_spks, text in LISTS.items():
        (folder / f"mix_{num_spks}_spk_tt.txt").write_text(text)
    return folder


def halved(samples):
    """16 kHz to 8 kHz: 10 zero crossings a side of a sinc under a Kaiser window."""
    taps = np.arange(-20, 21)
    low_pass = np.sinc(taps / 2) * np.kaiser(41, 5.0)
    return np.convolve(samples, low_pass / low_pass.sum())[20:-20][::2]


def calculated(folder, line, rate, version):
    """16-bit mixture and sources of a list's line, step by step as WSJ0-mix makes them."""
    words = line.split()
    scaled = []
    for path, gain in zip(words[::2], map(float, words[1::2])):
        file, = (folder / path).parent.glob("*")
        original, _ = soundfile.read(file)
        narrow = halved(original)
        power, _ = active_speech_level(narrow, 8000)
        factor = 10 ** (gain / 20) / np.sqrt(power)
        scaled.append(factor * (narrow if rate == 8000 else original))
    lengths = [len(samples) for samples in scaled]
    if version == "min":
        sources = np.stack([samples[: min(lengths)] for samples in scaled])
    else:
        sources = np.stack([np.pad(s, (0, max(lengths) - len(s))) for s in scaled])
    signals = np.concatenate([sources.sum(axis=0)[None], sources])
    return np.round(2**15 * signals * 0.9 / np.abs(signals).max())


def mix(*words):
    return main(["mix", *map(str, words)])


@pytest.mark.parametrize("num_spks", [2, 3])
def test_rates_and_versions_are_as_calculated(wsj0, lists, tmp_path, capsys, num_spks):
    path = lists / f"mix_{num_spks}_spk_tt.txt"
    status = mix(wsj0, tmp_path, "--list", f"tt={path}", "--sample-rate", 8000, 16000,
                 "--version", "min", "max")
    tree = tmp_path / f"{num_spks}speakers"
    assert status == 0 and capsys.readouterr().out.strip() == str(tree)
    parts = ["mix", "s1", "s2", "s3"][: num_spks + 1]
    for rate, folder in ((8000, "wav8k"), (16000, "wav16k")):
        for version in ("min", "max"):
            split = tree / folder / version / "tt"
            assert sorted(os.listdir(split)) == parts
            for plan, line in zip(read_list(path), LISTS[num_spks].splitlines()):
                wanted = calculated(wsj0, line, rate, version)
                for part, samples in zip(parts, wanted):
                    file = split / part / f"{plan.name}.wav"
                    written, found = soundfile.read(file, dtype="int16")
                    assert found == rate and len(written) == len(samples)
                    # A step where another order of the sums rounds the other way.
                    assert np.abs(written - samples).max() <= 1
                    assert np.mean(written != samples) < 1e-3
            prepare_wsj0mix(tree, tmp_path / "save", num_spks, rate, version, splits=["tt"])


def test_names_of_files_are_those_of_wsj0mix(wsj0, lists, tmp_path):
    mix(wsj0, tmp_path, "--list", f"tt={lists / 'mix_2_spk_tt.txt'}")
    mix(wsj0, tmp_path, "--list", f"tt={lists / 'mix_3_spk_tt.txt'}")
    assert sorted(os.listdir(tmp_path / "2speakers/wav8k/min/tt/s2")) == [
        "22gc0105_1.9_011c0201_-1.9.wav", "445c0206_0.60431_22gc0105_-0.60431.wav"]
    assert os.listdir(tmp_path / "3speakers/wav8k/min/tt/s3") == [
        "011c0201_2.2_445c0206_-2.2_22gc0105_0.wav"]


def test_another_call_adds_what_is_missing(wsj0, lists, tmp_path):
    words = [wsj0, tmp_path, "--list", f"tt={lists / 'mix_2_spk_tt.txt'}", "--version", "max"]
    mix(*words)
    mixtures = sorted((tmp_path / "2speakers/wav8k/max/tt/mix").iterdir())
    times = [path.stat().st_mtime_ns for path in mixtures]
    content = mixtures[1].read_bytes()
    mixtures[1].unlink()
    mix(*words, "min", "--sample-rate", 16000, 8000)
    assert mixtures[0].stat().st_mtime_ns == times[0]
    assert mixtures[1].read_bytes() == content
    assert len(list(tmp_path.rglob("mix/*.wav"))) == 8


def test_unusable_files_are_listed_and_nothing_is_mixed(wsj0, lists, tmp_path, capsys):
    path = tmp_path / "list.txt"
    path.write_text("a/1.wav 1 a/2.wav -1\na/3.wav 1 b/4.wav -1\n")
    write_audio(tmp_path / "a" / "1.wav", np.zeros(80), 16000)
    for name in ("a/2.wv2", "a/3.wv1"):
        soundfile.write(tmp_path / name, np.zeros(8000), 16000, format="NIST", subtype="PCM_16")
    os.truncate(tmp_path / "a" / "3.wv1", 5000)
    assert mix(tmp_path, tmp_path / "out", "--list", f"tr={path}") == 2
    *listed, last = capsys.readouterr().err.splitlines()
    listed = [line for line in listed if line.startswith(("a/", "b/"))]
    assert [line.split(":")[0] for line in listed] == ["a/2.wav", "a/3.wav", "b/4.wav"]
    for line, said in zip(listed, ("second microphone", "is truncated", "no such file")):
        assert said in line
    assert "3 file(s) of the lists cannot be used" in last and "folder that holds a?" in last
    assert not (tmp_path / "out").exists()


def test_written_lists_give_the_same_mixtures_again(tmp_path, capsys):
    rng = np.random.default_rng(1)
    for speaker in ("ann", "bob", "carla", "dan"):
        for number in range(3):
            name = f"{speaker}/book/{speaker}{number}.wav"
            write_audio(tmp_path / "speech" / name, 0.1 * rng.standard_normal(4000), 8000)
    words = ["--write-lists", tmp_path / "lists",
             "--count", "tr=5", "tt=4", "--split-by", "speaker"]
    assert mix(tmp_path / "speech", *words) == 0
    files = [tmp_path / "lists" / f"mix_2_spk_{split}.txt" for split in ("tr", "tt")]
    assert capsys.readouterr().out.split() == list(map(str, files))
    assert [len(file.read_text().splitlines()) for file in files] == [5, 4]
    train, test = ({path.split("/")[0] for path in file.read_text().split()[::2]}
                   for file in files)
    assert len(train) == len(test) == 2 and not train & test
    assert mix(tmp_path / "speech", tmp_path / "drawn", *words) == 0
    assert mix(tmp_path / "speech", tmp_path / "read",
               "--list", *(f"{file.stem[-2:]}={file}" for file in files)) == 0
    drawn, read = (
        {path.relative_to(tmp_path / out): path.read_bytes()
         for path in (tmp_path / out).rglob("*.wav")} for out in ("drawn", "read"))
    assert len(drawn) == 9 * 3 and drawn == read
    manifest = prepare_wsj0mix(tmp_path / "read/2speakers", tmp_path, 2, splits=["tr"])["tr"]
    with open(manifest, newline="") as file:
        assert len(list(csv.reader(file))) == 6


@pytest.mark.parametrize("words, said", [
    ([], "no OUT: name the folder to make"),
    (["OUT", "--list", "tt=2", "--seed", "1", "--split-by", "speaker"],
     "--seed, --split-by: not with --list"),
    (["OUT", "--list", "tt=2", "--write-lists", "L"], "--write-lists: not with --list"),
    (["--write-lists", "L", "--seconds", "2", "3"], "--seconds: not with --write-lists"),
    (["OUT", "--list", "tt=2", "tt=3"], "names a split twice"),
    (["OUT", "--list", "tt=2", "cv=3"], r"are of [2, 3] speakers"),
    (["OUT", "--list", "dev=2"], "write it as tr=FILE"),
    (["OUT", "--list", "tt=2", "-j", "0"], "jobs 0: must be 1 or more"),
    (["OUT", "--list", "tt=2", "--sample-rate", "8000", "11025"], "multiple of 1000"),
])
def test_contradictions_are_refused_in_one_line(wsj0, lists, tmp_path, capsys, words, said):
    for number in ("2", "3"):
        words = [word.replace(f"={number}", f"={lists}/mix_{number}_spk_tt.txt") for word in words]
    words = [str(tmp_path / word) if word in ("OUT", "L") else word for word in words]
    try:
        status = mix(wsj0, *words)
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
