"""Corpora that are folders: one folder for each split, and in it one for each kind of file.

The files of a mixture have the same name in the folders of the mixtures and of each source.
"""

import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from papez_lobes.data.inspection import Mixture
from papez_lobes.data.lookup import audio_files, report_passed_over
from papez_lobes.errors import UserError

SINGLE = "mix_single"  # LibriMix's and WHAM!'s mixtures of one speaker and noise
CLEAN = "mix_clean"  # their mixtures that are the sums of their sources
MIXTURE_TYPES = (CLEAN, "mix_both", SINGLE)


def absolute(folder: str | Path) -> str:
    """Return the absolute path of a folder; `~` is the home folder."""
    return str(Path(folder).expanduser().absolute())


def corpus_folder(data_folder: str | Path, corpus: str) -> Path:
    """Return the absolute path of a corpus; UserError if it is not there or has a $ in it."""
    folder = Path(absolute(data_folder))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; set data_folder to {corpus}")
    if re.search(r"\$[\w.]", str(folder)):  # SpeechBrain would take it for a variable
        raise UserError(f"{folder}: manifests cannot hold a path with a $ in it; rename it")
    return folder


def split_folder(
    data_folder: str | Path, split: str, sample_rate: int = 8000, version: str = "min"
) -> Path:
    """Return the folder of a split, as WSJ0-mix, LibriMix and WHAM! name it.

    Example
    -------
    >>> split_folder("2speakers", "tt", 16000, "max").as_posix()
    '2speakers/wav16k/max/tt'
    """
    return Path(data_folder, f"wav{sample_rate // 1000}k", version, split)


def source_names(num_spks: int, ending: str = "") -> list[str]:
    """The names of the folders of C sources.

    Example
    -------
    >>> source_names(2, "_reverb")
    ['s1_reverb', 's2_reverb']
    """
    return [f"s{number}{ending}" for number in range(1, num_spks + 1)]


def check_split(
    folder: Path, mixture: str | None, num_spks: int, data_folder: Path, corpus: str, hint: str,
    ending: str = "",
) -> list[str]:
    """Return the names of a split's folders: mixtures (unless None), source 1, ..., source C.

    `ending` is that of the names of the sources' folders. UserError, which names the corpus and
    says what to check (`hint`), if a folder is missing, or there are sources of another number of
    speakers.
    """
    found = next(n for n in count() if not (folder / f"s{n + 1}{ending}").is_dir())
    of_one = mixture is not None and mixture.startswith(SINGLE)
    if found not in (0, num_spks) and not of_one:
        raise UserError(
            f"{folder}: holds mixtures of {found} speaker(s), but num_spks is {num_spks}; set "
            f"num_spks to {found}, or data_folder to a {num_spks}-speaker tree"
        )
    parts = source_names(num_spks, ending)
    if mixture is not None:
        parts = [mixture, *parts]
    for part in parts:
        if not (folder / part).is_dir():
            raise UserError(f"{data_folder}: not {corpus}, it has no "
                            f"{(folder / part).relative_to(data_folder)}; {hint}")
    return parts


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raise UserError if an option is not one of its choices."""
    if value not in choices:
        raise UserError(f"{option} {value!r}: must be one of {', '.join(choices)}")


def check_version_and_type(version: str, mixture_type: str, num_spks: int) -> None:
    """Raise UserError for an unknown version or type of mixtures of LibriMix and WHAM!."""
    check_choice("version", version, ("min", "max"))
    check_choice("mixture_type", mixture_type, MIXTURE_TYPES)
    if mixture_type == SINGLE and num_spks != 1:
        raise UserError(f"mixture_type {mixture_type}: holds one speaker and noise, but num_spks "
                        f"is {num_spks}; set it to 1")


def paired_files(folder: Path, parts: Sequence[str]) -> list[Mixture]:
    """Pair the audio files of a split by their names.

    There is a mixture for each file name, without suffix, that any of the parts (mixtures, source
    1, ..., source C) holds. Files that a part lacks are named as `.wav` files there. What is not
    audio is counted and named in one line on stderr.
    """
    files_by_part, passed_over = [], []
    for part in parts:
        audio, others = audio_files(folder / part, deep=False)
        passed_over += others
        files_by_name = {}
        for path in audio:
            files_by_name.setdefault(path.stem, []).append(path)
        files_by_part.append(files_by_name)
    report_passed_over(folder, passed_over)
    mixtures = []
    for name in sorted(set().union(*files_by_part)):
        files, flaw = [], None
        for part, files_by_name in zip(parts, files_by_part):
            found = files_by_name.get(name, [folder / part / f"{name}.wav"])
            files.append(found[0])
            if len(found) > 1:
                flaw = f"has the name of {found[1].name}; keep one of them"
        mixtures.append(Mixture(name, tuple(files), flaw=flaw))
    return mixtures
