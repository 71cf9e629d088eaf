"""Mixtures of a corpus, and the search for files in them that training cannot use."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from papez_lobes.data.audio import AudioInfo, audio_info, read_audio, write_audio
from papez_lobes.errors import UserError

SILENT = 2.0**-15  # one step of 16 bit: a file that is nowhere louder holds no speech

File = TypeVar("File", str, Path)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Mixture:
    """A mixture of a corpus, before its files are inspected.

    Arguments
    ---------
    name : str
        Its ID in the manifest.
    files : tuple[pathlib.Path, ...]
        C + 1 absolute paths: mixture, source 1, ..., source C.
    frames : int or None
        Its length in samples, if the corpus states it elsewhere than in the files.
    flaw : str or None
        Why it cannot be used, whatever its files hold.
    summed : bool
        The corpus has no file of the mixture. The sum of the sources is written to the first path.
    """

    name: str
    files: tuple[Path, ...]
    frames: int | None = None
    flaw: str | None = None
    summed: bool = False


@dataclass(frozen=True)
class Inspection:
    """What an inspection found.

    Arguments
    ---------
    seconds : float
        Duration of the mixture; 0 if there are problems.
    problems : list[tuple[pathlib.Path, str]]
        (path, reason); empty if the mixture can be used.
    sum_error : float
        Largest absolute difference between the mixture and the sum of its sources, where full
        scale is 1; 0 if they were not compared.
    """

    seconds: float
    problems: list[tuple[Path, str]]
    sum_error: float = 0.0


def inspect_mixture(
    mixture: Mixture, sample_rate: int, check_audio: bool = True, check_sum: bool = False
) -> Inspection:
    """Inspect the files of one mixture, and write the mixture's file if it is `summed`.

    Arguments
    ---------
    mixture : Mixture
    sample_rate : int
        Rate in Hz that all files must have.
    check_audio : bool
        Decode the files. Otherwise only their headers are read.
    check_sum : bool
        Decode the files and compare the mixture with the sum of its sources. Files that cannot be
        decoded are not compared; they are a problem only with `check_audio`.

    Returns
    -------
    Inspection

    Example
    -------
    >>> inspect_mixture(Mixture("a", (Path("/no/mix.wav"),)), sample_rate=8000).problems
    [(PosixPath('/no/mix.wav'), 'no such file; name an audio file')]
    """
    if mixture.flaw:
        return Inspection(0.0, [(mixture.files[0], mixture.flaw)])
    files = mixture.files[1:] if mixture.summed else mixture.files
    infos, problems = try_each(partial(_checked_info, sample_rate=sample_rate), files)
    problems = problems or _compare_lengths(mixture, files, infos)
    if problems:
        return Inspection(0.0, problems)
    sum_error = 0.0
    if check_audio or mixture.summed:
        signals, problems = try_each(_read_audible, files)
    elif check_sum:
        signals, _ = try_each(read_audio, files)
    if mixture.summed and not problems:
        problems = _write_sum(mixture.files[0], signals, sample_rate)
    elif check_sum and not problems and len(signals) == len(files):
        sum_error = float(np.abs(signals[0] - np.sum(signals[1:], axis=0)).max())
    return Inspection(0.0 if problems else infos[0].seconds, problems, sum_error)


def try_each(
    read: Callable[[File], Result], files: Iterable[File]
) -> tuple[list[Result], list[tuple[File, str]]]:
    """Read each file, and collect the failures.

    Arguments
    ---------
    read : callable
        Takes a file; raises UserError if it cannot be used.
    files : iterable of str or pathlib.Path

    Returns
    -------
    results : list
        What `read` returned for the files that can be used.
    problems : list[tuple]
        (file, reason) of the others.

    Example
    -------
    >>> try_each(audio_info, ["/no/a.wav"])
    ([], [('/no/a.wav', 'no such file; name an audio file')])
    """
    results, problems = [], []
    for file in files:
        try:
            results.append(read(file))
        except UserError as error:
            problems.append((file, str(error).removeprefix(f"{file}: ")))
    return results, problems


def _checked_info(file: Path, sample_rate: int) -> AudioInfo:
    info = audio_info(file)
    if info.sample_rate != sample_rate:
        raise UserError(f"is sampled at {info.sample_rate} Hz, not {sample_rate}; set sample_rate, "
                        "or name the folder of that rate")
    if info.channels != 1:
        raise UserError(f"has {info.channels} channels; make it one, or leave it out")
    return info


def _compare_lengths(
    mixture: Mixture, files: tuple[Path, ...], infos: list[AudioInfo]
) -> list[tuple[Path, str]]:
    lengths = {file.parent.name: info.frames for file, info in zip(files, infos)}
    if mixture.frames is not None:
        lengths["metadata"] = mixture.frames
    if len(set(lengths.values())) == 1:
        return []
    text = ", ".join(f"{name} {frames}" for name, frames in lengths.items())
    return [(files[0], f"lengths differ ({text} samples); make or copy the mixture again")]


def _read_audible(file: Path) -> np.ndarray:
    samples = read_audio(file)
    if np.abs(samples).max() <= SILENT:
        raise UserError("is silent; leave it out")
    return samples


def _write_sum(file: Path, signals: list[np.ndarray], sample_rate: int) -> list[tuple[Path, str]]:
    """Write the sum to a file of float samples, which can exceed full scale."""
    total = np.sum(signals, axis=0)
    if np.abs(total).max() <= SILENT:
        return [(file, "would be silent, as the sources cancel; leave them out")]
    write_audio(file, total, sample_rate, subtype="FLOAT", sync=False)
    return []
