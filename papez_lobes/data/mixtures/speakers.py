"""Folders of speakers: their utterances, and disjoint splits of these."""

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import audio_info
from papez_lobes.data.corpora.commonvoice import default_table, read_clips
from papez_lobes.data.inspection import try_each
from papez_lobes.data.lookup import audio_files, refuse_second_microphone, report_passed_over
from papez_lobes.errors import UserError

FRACTIONS = {"tr": 0.8, "cv": 0.1, "tt": 0.1}
VCTK = ("wav48_silence_trimmed", "wav48")  # where VCTK, of either release, has its speakers

Item = TypeVar("Item")
Recording = tuple[str, Path]  # speaker and file


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker.

    `path` is below the scanned root, with "/" between its parts. `seconds` is the duration,
    `sample_rate` is in Hz.
    """

    path: str
    seconds: float
    sample_rate: int


def scan_speakers(
    folder: str | Path, tsv: str | None = None
) -> tuple[dict[str, list[Utterance]], list[tuple[str, str]]]:
    """Find the utterances of a folder of speakers, see `find_speech`.

    Returns those of each speaker, sorted by speaker, then path, and (path, reason) of every audio
    file that cannot be read. A speaker without any other is left out; UserError if there is none.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "ann" / "chapter" / "1.wav", np.zeros(4000), 8000)
    >>> _ = (folder / "ann" / "2.wav").write_text("not audio")
    >>> speakers, skipped = scan_speakers(folder)
    >>> speakers, [path for path, reason in skipped]
    ({'ann': [Utterance(path='ann/chapter/1.wav', seconds=0.5, sample_rate=8000)]}, ['ann/2.wav'])
    """
    recordings, passed_over = find_speech(folder, tsv)
    report_passed_over(folder, passed_over)
    speakers, skipped = read_headers(recordings, folder)
    if not speakers:
        raise UserError(
            f"{folder}: holds no speech ({len(skipped)} unreadable files); name a folder with one "
            "subfolder per speaker, each with wav, flac or other audio files"
        )
    return speakers, skipped


def find_speech(
    folder: str | Path, tsv: str | None = None
) -> tuple[list[Recording], list[Path]]:
    """List the speech in a folder that has one subfolder per speaker: (speaker, file), sorted.

    Files are searched at any depth below a speaker's folder, as in LibriSpeech's
    speaker/chapter/utterance.flac. Of WSJ0's two microphones (`.wv1`, `.wv2`) and of VCTK's
    (`_mic1`, `_mic2`) the first is taken, and a `.wv1` file gives way to its conversion.

    The folder may also be VCTK's own; or that of a language of Common Voice, which holds `clips`
    and tables that name the speakers, of which `tsv` is read, by default `train.tsv` or else
    `validated.tsv`. Also returns the files that are passed over: not audio by their suffix, or in
    no speaker's folder. UserError if there is no such folder, or an utterance of WSJ0's second
    microphone alone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with a subfolder per speaker")
    tsv = tsv or default_table(folder)
    if tsv is not None:
        return read_clips(folder, tsv), []
    for name in VCTK:
        if (folder / name).is_dir():
            folder = folder / name
    found, passed_over = [], []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            passed_over.append(entry)
            continue
        audio, others = audio_files(entry)
        second = _second_microphones(audio, others)
        found += [(entry.name, path) for path in audio if path not in second]
        passed_over += [path for path in others if path not in second]
    return found, passed_over


def read_headers(
    recordings: Sequence[Recording], root: str | Path
) -> tuple[dict[str, list[Utterance]], list[tuple[str, str]]]:
    """Read the headers of recordings: (utterances by speaker, (path, reason) of the others)."""
    paths = [path for _, path in recordings]
    infos, problems = try_each(audio_info, tqdm(paths, "reading headers", unit="file",
                                                disable=None))
    names = {path: Path(os.path.relpath(path, root)).as_posix() for path in paths}
    speakers = {}
    for speaker, path in recordings:
        if path in infos:
            info = infos[path]
            utterance = Utterance(names[path], info.seconds, info.sample_rate)
            speakers.setdefault(speaker, []).append(utterance)
    return speakers, [(names[path], reason) for path, reason in problems]


def _second_microphones(audio: list[Path], others: list[Path]) -> set[Path]:
    """The files that record the same utterance as another one of the audio files does."""
    names = {path.with_suffix("") for path in audio}
    converted = {path.with_suffix("") for path in audio if path.suffix.lower() != ".wv1"}
    duplicates = set()
    for path in audio:
        refuse_second_microphone(path)
        name = path.with_suffix("")
        of_vctk = name.name.endswith("_mic2") and name.with_name(f"{name.name[:-1]}1") in names
        if of_vctk or (path.suffix.lower() == ".wv1" and name in converted):
            duplicates.add(path)
    for path in others:
        if path.suffix.lower() == ".wv2":
            if path.with_suffix("") not in names:
                refuse_second_microphone(path)
            duplicates.add(path)
    return duplicates


def split_speech(
    speakers: dict[str, list[Utterance]], splits: Iterable[str], num_spks: int, seed: int = 0,
    split_by: str = "utterance",
) -> dict[str, dict[str, list[Utterance]]]:
    """Divide speech among some of tr, cv and tt, so that each has enough for a mixture.

    `split_by` is "utterance" (see `split_utterances`) or "speaker" (see `split_speakers`).
    UserError if there are too few speakers, or utterances of them.
    """
    asked = {split: share for split, share in FRACTIONS.items() if split in splits}
    fractions = {split: share / sum(asked.values()) for split, share in asked.items()}
    if split_by == "speaker":
        return split_speakers(speakers, fractions, seed, min_speakers=num_spks)
    parts = split_utterances(speakers, fractions, seed)
    for split, part in parts.items():
        if len(part) < num_spks <= len(speakers):
            hint = "add utterances, or ask for fewer splits (--count)"
            if len(speakers) >= num_spks * len(parts):
                hint = "divide by voices (--split-by speaker), or add utterances"
            raise UserError(
                f"{split}: only {len(part)} of {len(speakers)} speakers have enough utterances "
                f"for every split ({len(parts)}, one for each of {', '.join(parts)}); {hint}"
            )
    return parts


def split_utterances(
    speakers: dict[str, list[Utterance]], fractions: dict[str, float] = FRACTIONS, seed: int = 0
) -> dict[str, dict[str, list[Utterance]]]:
    """Split every speaker's utterances into disjoint sets: all voices in all splits.

    Each speaker's utterances are shuffled by `seed` and name alone, so that a further speaker
    changes nothing for the others. A speaker with fewer utterances than there are splits stays in
    the first split. `fractions` are the shares of the splits, ValueError unless they are positive
    and sum to 1. Every split of a speaker gets one utterance at least. Returns the speakers of each
    split.

    Example
    -------
    >>> ann = [Utterance(f"ann/{number}.wav", 1.0, 8000) for number in range(10)]
    >>> splits = split_utterances({"ann": ann})
    >>> {split: len(part["ann"]) for split, part in splits.items()}
    {'tr': 8, 'cv': 1, 'tt': 1}
    """
    splits = {split: {} for split in fractions}
    for speaker, utterances in speakers.items():
        rng = np.random.default_rng((seed, zlib.crc32(speaker.encode())))
        if len(utterances) < len(fractions):
            splits[next(iter(fractions))][speaker] = list(utterances)
            continue
        for split, chosen in _divide(utterances, fractions, 1, rng).items():
            splits[split][speaker] = chosen
    return splits


def split_speakers(
    speakers: dict[str, list[Utterance]], fractions: dict[str, float] = FRACTIONS, seed: int = 0,
    min_speakers: int = 2,
) -> dict[str, dict[str, list[Utterance]]]:
    """Split the speakers into disjoint sets: no voice in two splits.

    Arguments and result are those of `split_utterances`. Every split gets at least `min_speakers`;
    UserError if there are too few.

    Example
    -------
    >>> splits = split_speakers({name: [] for name in "abcdefghij"})
    >>> {split: len(part) for split, part in splits.items()}
    {'tr': 6, 'cv': 2, 'tt': 2}
    """
    if len(speakers) < min_speakers * len(fractions):
        raise UserError(
            f"{len(speakers)} speakers: too few for {min_speakers} different ones in each of "
            f"{', '.join(fractions)}; add speakers, or split by utterance"
        )
    parts = _divide(sorted(speakers), fractions, min_speakers, np.random.default_rng(seed))
    return {split: {name: speakers[name] for name in names} for split, names in parts.items()}


def _divide(
    items: Sequence[Item], fractions: dict[str, float], at_least: int, rng: np.random.Generator
) -> dict[str, list[Item]]:
    """Divide items into disjoint lists of `at_least` each, at the cost of the largest split."""
    if min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and sum to 1, not {fractions}")
    count = len(items)
    sizes = {split: max(at_least, round(share * count)) for split, share in fractions.items()}
    while sum(sizes.values()) != count:
        largest = max(sizes, key=sizes.get)
        sizes[largest] += 1 if sum(sizes.values()) < count else -1
    order = rng.permutation(count).tolist()
    chosen = {split: sorted(order.pop() for _ in range(size)) for split, size in sizes.items()}
    return {split: [items[index] for index in indices] for split, indices in chosen.items()}
