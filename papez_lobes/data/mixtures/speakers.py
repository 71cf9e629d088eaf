"""Folders of speakers: which utterances there are, and disjoint splits of them."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import audio_info
from papez_lobes.data.corpora.commonvoice import default_table, read_clips
from papez_lobes.data.lookup import AUDIO_SUFFIXES, refuse_second_microphone
from papez_lobes.errors import UserError

FRACTIONS = {"tr": 0.8, "cv": 0.1, "tt": 0.1}
VCTK = ("wav48_silence_trimmed", "wav48")  # where VCTK, of either release, has its speakers


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker: path (below the scanned root, "/" between its parts),
    duration in seconds, and sampling rate in Hz."""

    path: str
    seconds: float
    sample_rate: int


def scan_speakers(folder, root=None, tsv=None):
    """Find the utterances of a folder that has one subfolder per speaker.

    Files are searched at any depth below a speaker's folder (so LibriSpeech's
    speaker/chapter/utterance.flac is understood), in sorted order; hidden files and folders are
    passed over, and links to folders are not followed below the speakers' own. Of WSJ0's two
    microphones (`.wv1`, `.wv2`) the first is taken, and its conversion rather than itself; of
    VCTK's two (`_mic1`, `_mic2`) the first as well.

    VCTK's own folder will do, and so will that of a language of Common Voice (`clips` and tables),
    whose speakers its table names.

    Arguments
    ---------
    folder : str or pathlib.Path
        The folder of speakers' folders.
    root : str, pathlib.Path or None
        Paths are given relative to it; None: to `folder`. A common root lets the results for
        several folders be put together.
    tsv : str or None
        Table of Common Voice, below `folder`; None: `train.tsv` or else `validated.tsv`, if
        `folder` holds `clips` too.

    Returns
    -------
    speakers : dict[str, list[Utterance]]
        Sorted by speaker, then path. A speaker without any readable file is left out.
    skipped : list[tuple[str, str]]
        (path, reason) of every file with an audio suffix that could not be read.

    Raises
    ------
    UserError
        No such folder, or no speaker with a readable file in it, or an utterance of WSJ0's second
        microphone alone.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "ann" / "chapter" / "1.wav", np.zeros(4000), 8000)
    >>> _ = (folder / "ann" / "2.wav").write_text("not audio")
    >>> speakers, skipped = scan_speakers(folder)
    >>> speakers
    {'ann': [Utterance(path='ann/chapter/1.wav', seconds=0.5, sample_rate=8000)]}
    >>> [path for path, reason in skipped]
    ['ann/2.wav']
    """
    folder = Path(folder)
    root = folder if root is None else Path(root)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with a subfolder per speaker")
    speakers, skipped = {}, []
    tsv = tsv or default_table(folder)
    found = _speech(folder) if tsv is None else read_clips(folder, tsv)
    for speaker, path in tqdm(found, desc="reading headers", unit="file", disable=None):
        name = Path(os.path.relpath(path, root)).as_posix()
        try:
            info = audio_info(path)
        except UserError as error:
            skipped.append((name, str(error).removeprefix(f"{path}: ")))
            continue
        if info.frames == 0:
            skipped.append((name, "holds no samples"))
            continue
        utterance = Utterance(name, info.seconds, info.sample_rate)
        speakers.setdefault(speaker, []).append(utterance)
    if not speakers:
        raise UserError(
            f"{folder}: holds no speech ({len(skipped)} unreadable files); name a folder with one "
            f"subfolder per speaker, each with {', '.join(AUDIO_SUFFIXES)} files"
        )
    return speakers, skipped


def _speech(folder):
    """(speaker, file) of everything below a folder of speakers."""
    for name in VCTK:
        if (folder / name).is_dir():
            folder = folder / name
    return [(entry.name, path) for entry in _speaker_folders(folder) for path in _files(entry)]


def _speaker_folders(folder):
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if entry.is_dir())


def _files(folder):
    """Audio files at any depth, sorted by their path's parts."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += _audio([Path(parent, name) for name in sorted(files) if not name.startswith(".")])
    return sorted(found)


def _audio(paths):
    """The audio among the files of one folder, one for an utterance of WSJ0 or VCTK."""
    audio = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    converted = {path.stem for path in audio if path.suffix.lower() != ".wv1"}
    stems = {path.stem for path in audio}
    for path in paths:
        if path.suffix.lower() in AUDIO_SUFFIXES or path.stem not in stems:
            refuse_second_microphone(path)
    return [path for path in audio
            if (path.suffix.lower() != ".wv1" or path.stem not in converted)
            and not (path.stem.endswith("_mic2") and f"{path.stem[:-1]}1" in stems)]


def split_utterances(speakers, fractions=None, seed=0):
    """Split every speaker's utterances into disjoint sets: all voices in all splits.

    Each speaker is shuffled by `seed` and name alone, so that another speaker more changes
    nothing for the rest. A speaker with fewer utterances than there are splits stays in the
    first split.

    Arguments
    ---------
    speakers : dict[str, list[Utterance]]
        As from `scan_speakers`.
    fractions : dict[str, float] or None
        Share of each split, summing to 1; None: tr 0.8, cv 0.1, tt 0.1. Every split of a
        speaker gets one utterance at least.
    seed : int

    Returns
    -------
    dict[str, dict[str, list[Utterance]]]
        Split name -> speakers.

    Raises
    ------
    ValueError
        The fractions are not positive or do not sum to 1.

    Example
    -------
    >>> ann = [Utterance(f"ann/{number}.wav", 1.0, 8000) for number in range(10)]
    >>> splits = split_utterances({"ann": ann})
    >>> {split: len(part["ann"]) for split, part in splits.items()}
    {'tr': 8, 'cv': 1, 'tt': 1}
    """
    fractions = _checked(fractions)
    splits = {split: {} for split in fractions}
    for speaker, utterances in speakers.items():
        rng = np.random.default_rng((seed, zlib.crc32(speaker.encode())))
        if len(utterances) < len(fractions):
            splits[next(iter(fractions))][speaker] = list(utterances)
            continue
        for split, chosen in _parts(utterances, fractions, 1, rng).items():
            splits[split][speaker] = chosen
    return splits


def split_speakers(speakers, fractions=None, seed=0, min_speakers=2):
    """Split the speakers into disjoint sets: no voice in two splits.

    Arguments
    ---------
    speakers, fractions, seed
        As in `split_utterances`.
    min_speakers : int
        Every split gets this many speakers at least.

    Returns
    -------
    dict[str, dict[str, list[Utterance]]]
        Split name -> speakers.

    Raises
    ------
    UserError
        There are too few speakers for `min_speakers` in each split.

    Example
    -------
    >>> splits = split_speakers({name: [] for name in "abcdefghij"})
    >>> {split: len(part) for split, part in splits.items()}
    {'tr': 6, 'cv': 2, 'tt': 2}
    """
    fractions = _checked(fractions)
    if len(speakers) < min_speakers * len(fractions):
        raise UserError(
            f"{len(speakers)} speakers: too few for {min_speakers} different ones in each of "
            f"{', '.join(fractions)}; add speakers, or split by utterance"
        )
    parts = _parts(sorted(speakers), fractions, min_speakers, np.random.default_rng(seed))
    return {split: {name: speakers[name] for name in names} for split, names in parts.items()}


def _checked(fractions):
    fractions = FRACTIONS if fractions is None else fractions
    if min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and sum to 1, not {fractions}")
    return fractions


def _parts(items, fractions, at_least, rng):
    """Disjoint lists of all items, in their order; the largest split gives way to `at_least`."""
    count = len(items)
    sizes = {split: max(at_least, round(share * count)) for split, share in fractions.items()}
    while sum(sizes.values()) != count:
        largest = max(sizes, key=sizes.get)
        sizes[largest] += 1 if sum(sizes.values()) < count else -1
    order = rng.permutation(count).tolist()
    chosen = {split: sorted(order.pop() for _ in range(size)) for split, size in sizes.items()}
    return {split: [items[index] for index in indices] for split, indices in chosen.items()}
