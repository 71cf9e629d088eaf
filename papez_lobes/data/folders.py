"""Corpora that are folders: a folder for each split, and in it one for the mixtures and one for
each source, in which the files of a mixture have the same name."""

import re
from pathlib import Path

from papez_lobes.data.inspection import Mixture
from papez_lobes.errors import UserError


def corpus_folder(data_folder, corpus):
    """The absolute path of a corpus; UserError if it is not there, or manifests cannot hold it.

    Example
    -------
    >>> corpus_folder("/nowhere", "a LibriMix folder")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: /nowhere: no such folder; set data_folder to a LibriMix folder
    """
    folder = Path(data_folder).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; set data_folder to {corpus}")
    if re.search(r"\$[\w.]", str(folder)):  # SpeechBrain would take it for a variable
        raise UserError(f"{folder}: manifests cannot hold a path with a $ in it; rename it")
    return folder


def rate_folder(data_folder, sample_rate, version):
    """The folder of a rate and a version, as WSJ0-mix, LibriMix and WHAM! name it.

    Example
    -------
    >>> rate_folder("2speakers", 16000, "max").as_posix()
    '2speakers/wav16k/max'
    """
    return Path(data_folder, f"wav{sample_rate // 1000}k", version)


def source_names(num_spks, ending=""):
    """The folders of C sources.

    Example
    -------
    >>> source_names(2, "_reverb")
    ['s1_reverb', 's2_reverb']
    """
    return [f"s{number}{ending}" for number in range(1, num_spks + 1)]


def check_parts(folder, parts, data_folder, corpus, hint="check data_folder and sample_rate"):
    """Refuse a split's folder in which one of the parts' folders is missing."""
    for part in parts:
        if not (folder / part).is_dir():
            raise UserError(f"{data_folder}: not {corpus}, it has no "
                            f"{(folder / part).relative_to(data_folder)}; {hint}")


def check_speakers(folder, num_spks, data_folder, ending=""):
    """Refuse a split's folder that has sources s1, s2, ... in a row, but not `num_spks` of them."""
    found = 0
    while (folder / f"s{found + 1}{ending}").is_dir():
        found += 1
    if found not in (0, num_spks):
        raise UserError(
            f"{folder}: holds mixtures of {found} speaker(s), but num_spks is {num_spks}; set "
            f"num_spks to {found}, or data_folder to a {num_spks}-speaker tree"
        )


def check_choice(knob, value, choices):
    """Refuse a value that a knob does not have.

    Example
    -------
    >>> check_choice("version", "mid", ("min", "max"))
    Traceback (most recent call last):
    papez_lobes.errors.UserError: version 'mid': must be one of min, max
    """
    if value not in choices:
        raise UserError(f"{knob} {value!r}: must be one of {', '.join(choices)}")


def paired_files(folder, parts, suffixes=(".wav",)):
    """The mixtures of a split by the names of its files, with or without partners.

    Arguments
    ---------
    folder : pathlib.Path
        Of the split.
    parts : sequence of str
        Folders in it: mixtures, source 1, ..., source C.
    suffixes : sequence of str
        Of the files; a mixture's may differ.

    Returns
    -------
    list[Mixture]
        One for each file stem found in any of the parts.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("mix/a.wav", "mix/.b.wav", "s1/c.wav"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> for mixture in paired_files(folder, ["mix", "s1"]):
    ...     print(mixture.name, [file.relative_to(folder).as_posix() for file in mixture.files])
    a ['mix/a.wav', 's1/a.wav']
    c ['mix/c.wav', 's1/c.wav']
    """
    listed = [_files(folder / part, suffixes) for part in parts]
    mixtures = []
    for name in sorted(set().union(*listed)):
        files, flaw = [], None
        for part, found in zip(parts, listed):
            some = found.get(name, [folder / part / f"{name}{suffixes[0]}"])
            files.append(some[0])
            if len(some) > 1:
                flaw = f"has the name of {some[1].name}; keep one of them"
        mixtures.append(Mixture(name, tuple(files), flaw=flaw))
    return mixtures


def _files(folder, suffixes):
    """Stem -> the files of that stem."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files
