"""Small trees in the layouts of the corpora, of seeded synthetic voices, for the tests."""

import csv

import numpy as np

from papez_lobes.data.audio import write_audio

SAMPLE_RATE = 8000
SPLITS = ("tr", "cv", "tt")


def voice(speaker, seconds, rng):
    """A harmonic tone of the speaker's pitch under a slow random envelope: [T], easy to learn."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 110 * 2.3**speaker
    tone = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    knots = rng.uniform(0.1, 1.0, size=max(2, int(seconds * 8)))
    envelope = np.interp(time, np.linspace(0, time[-1], len(knots)), knots)
    return (0.1 * tone * envelope).astype(np.float32)


def draw_mixtures(folders, counts, num_spks, seconds, seed):
    """Yields (split's folder, name of the files, sources) of every mixture of a tree."""
    rng = np.random.default_rng(seed)
    for folder, count in zip(folders, counts):
        for index in range(count):
            length = rng.uniform(*seconds)
            yield folder, f"m{index:02d}", [voice(who, length, rng) for who in range(num_spks)]


def write_parts(folder, name, **parts):
    """Writes `folder/<part>/<name>.wav` of each part; returns the paths."""
    files = [folder / part / f"{name}.wav" for part in parts]
    for file, samples in zip(files, parts.values()):
        write_audio(file, samples, SAMPLE_RATE, sync=False)
    return files


def numbered(sources, ending=""):
    """The sources by the names of their folders: s1, s2, ..."""
    return {f"s{number}{ending}": samples for number, samples in enumerate(sources, start=1)}


def write_small_tree(folder, num_spks=2, counts=(8, 3, 3), seconds=(0.4, 0.8), seed=0):
    """WSJ0-mix: writes `wav8k/min/{tr,cv,tt}` below `folder`, which is returned."""
    splits = [folder / "wav8k/min" / split for split in SPLITS]
    for split, name, sources in draw_mixtures(splits, counts, num_spks, seconds, seed):
        write_parts(split, name, mix=sum(sources), **numbered(sources))
    return folder


def write_small_librimix(folder, num_spks=2, counts=(8, 3, 3), seconds=(0.4, 0.8), seed=0):
    """LibriMix, clean; its metadata has the paths of another machine."""
    splits = [folder / "wav8k/min" / split for split in ("train-360", "dev", "test")]
    rows = {split: [] for split in splits}
    for split, name, sources in draw_mixtures(splits, counts, num_spks, seconds, seed):
        files = write_parts(split, name, mix_clean=sum(sources), **numbered(sources))
        paths = [f"/storage/{file.relative_to(folder.parent)}" for file in files]
        rows[split].append([name, *paths, len(sources[0])])
    columns = [f"source_{number}_path" for number in range(1, num_spks + 1)]
    (folder / "wav8k/min/metadata").mkdir()
    for split in splits:
        path = folder / f"wav8k/min/metadata/mixture_{split.name}_mix_clean.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["mixture_ID", "mixture_path", *columns, "length"], *rows[split]])
    return folder


def write_small_whamr(folder, counts=(8, 3, 3), seconds=(0.4, 0.8), seed=0):
    """WHAMR!, its mixtures with noise: a single echo stands for the room."""
    rng = np.random.default_rng(seed)
    splits = [folder / "wav8k/min" / split for split in SPLITS]
    for split, name, sources in draw_mixtures(splits, counts, 2, seconds, seed):
        noise = 0.01 * rng.standard_normal(len(sources[0])).astype(np.float32)
        echoes = [source + 0.5 * np.roll(source, 80) for source in sources]
        for ending, heard in (("_anechoic", sources), ("_reverb", echoes)):
            mixture = {f"mix_both{ending}": sum(heard) + noise}
            write_parts(split, name, **mixture, **numbered(heard, ending))
        write_parts(split, name, noise=noise)
    return folder


def write_small_speech(folder, num_speakers=3):
    """Speech to mix on the fly: `<speaker>/a.wav` of 3 s."""
    for speaker in range(num_speakers):
        rng = np.random.default_rng(speaker)
        write_audio(folder / f"{speaker}/a.wav", voice(speaker, 3.0, rng), SAMPLE_RATE)
    return folder


def write_small_folders(folder, counts=(8, 3, 3), seconds=(0.4, 0.8), seed=0):
    """A custom corpus: `{train,valid,test}/{s1,s2}`, without mixtures."""
    splits = [folder / split for split in ("train", "valid", "test")]
    for split, name, sources in draw_mixtures(splits, counts, 2, seconds, seed):
        write_parts(split, name, **numbered(sources))
    return folder
