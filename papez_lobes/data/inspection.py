"""Mixtures of a corpus, and the search for files in them that training cannot use."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from papez_lobes.data.audio import AudioInfo, audio_info, read_audio, write_audio
from papez_lobes.errors import UserError

STEP = 2.0**-15  # of 16 bit: a file that is nowhere louder holds no speech

File = TypeVar("File", str, Path)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Mixture:
    """A mixture of a corpus, before its files are inspected.

    `name` is its ID in the manifest, and `files` are C + 1 absolute paths: mixture, source 1, ...,
    source C. `frames` is its length in samples, if the corpus states it elsewhere than in the
    files. `flaw` says why it cannot be used, whatever its files hold. If it is `summed`, the corpus
    has no file of the mixture: the sum of the sources is written to the first path.
    """

    name: str
    files: tuple[Path, ...]
    frames: int | None = None
    flaw: str | None = None
    summed: bool = False


@dataclass(frozen=True)
class Inspection:
    """Result of an inspection.

    `seconds` is the mixture's duration, or 0 if there are problems: (path, reason) of each file
    that cannot be used. `sum_error` is the largest absolute difference between the mixture and the
    sum of its sources, where full scale is 1; 0 if they differ by rounding alone or were not
    compared.
    """

    seconds: float
    problems: list[tuple[Path, str]]
    sum_error: float = 0.0


def inspect_mixture(
    mixture: Mixture, sample_rate: int, check_audio: bool = True, check_sum: bool = False
) -> Inspection:
    """Inspect the files of one mixture, and write the mixture's file if it is `summed`.

    All files must have the rate, in Hz. With `check_audio` they are decoded; otherwise only their
    headers are read. A silent source is a problem, unless the mixture is the sum of its sources, as
    where one speaker is alone. With `check_sum` files are decoded and the mixture is compared with
    the sum of its sources. Files that cannot be decoded are not compared; they are a problem only
    with `check_audio`.

    Example
    -------
    >>> inspect_mixture(Mixture("a", (Path("/no/mix.wav"),)), sample_rate=8000).problems
    [(PosixPath('/no/mix.wav'), 'no such file; name an audio file')]
    """
    if mixture.flaw:
        return Inspection(0.0, [(mixture.files[0], mixture.flaw)])
    files = mixture.files[1:] if mixture.summed else mixture.files
    infos, problems = try_each(partial(_checked_info, sample_rate=sample_rate), files)
    problems = problems or _compare_lengths(mixture, infos)
    if problems:
        return Inspection(0.0, problems)
    sum_error = 0.0
    if mixture.summed:
        signals, problems = try_each(read_audio, files)
        problems += _silent(signals)
        problems = problems or _write_sum(mixture.files[0], signals, sample_rate)
    elif check_audio or check_sum:
        signals, unreadable = try_each(read_audio, files)
        if not unreadable:
            mixed, *sources = signals.values()
            error = float(np.abs(mixed - np.sum(sources, axis=0)).max())
            sum_error = error if error > max(2, len(sources)) * STEP else 0.0  # or it is rounding
        if check_audio:
            expected = () if unreadable or sum_error else files[1:]
            problems = unreadable + _silent(signals, expected)
    if problems:
        return Inspection(0.0, problems)
    return Inspection(infos[files[0]].seconds, [], sum_error if check_sum else 0.0)


def try_each(
    read: Callable[[File], Result], files: Iterable[File]
) -> tuple[dict[File, Result], list[tuple[File, str]]]:
    """Apply `read` to each file: (results by file, (file, reason) for each UserError).

    Example
    -------
    >>> try_each(audio_info, ["/no/a.wav"])
    ({}, [('/no/a.wav', 'no such file; name an audio file')])
    """
    results, problems = {}, []
    for file in files:
        try:
            results[file] = read(file)
        except UserError as error:
            problems.append((file, str(error).removeprefix(f"{file}: ")))
    return results, problems


def _checked_info(file: Path, sample_rate: int) -> AudioInfo:
    """Read a header, or raise UserError if it is not of one channel at this rate."""
    info = audio_info(file)
    if info.sample_rate != sample_rate:
        raise UserError(f"is sampled at {info.sample_rate} Hz, not {sample_rate}; set sample_rate, "
                        "or name the folder of that rate")
    if info.channels != 1:
        raise UserError(f"has {info.channels} channels; make it one, or leave it out")
    return info


def _compare_lengths(mixture: Mixture, infos: dict[Path, AudioInfo]) -> list[tuple[Path, str]]:
    """Return a problem if the files' lengths, or that of the metadata, differ."""
    lengths = {file.parent.name: info.frames for file, info in infos.items()}
    if mixture.frames is not None:
        lengths["metadata"] = mixture.frames
    if len(set(lengths.values())) == 1:
        return []
    text = ", ".join(f"{name} {frames}" for name, frames in lengths.items())
    reason = f"lengths differ ({text} samples); make or copy the mixture again"
    return [(next(iter(infos)), reason)]


def _silent(
    signals: dict[Path, np.ndarray], expected: Sequence[Path] = ()
) -> list[tuple[Path, str]]:
    """Return a problem for each file that is silent where this is not expected."""
    return [(file, "is silent; leave it out") for file, samples in signals.items()
            if file not in expected and np.abs(samples).max() <= STEP]


def _write_sum(
    file: Path, signals: dict[Path, np.ndarray], sample_rate: int
) -> list[tuple[Path, str]]:
    """Write the sum to a file of float samples, which can exceed full scale."""
    total = np.sum(list(signals.values()), axis=0)
    if np.abs(total).max() <= STEP:
        return [(file, "would be silent, as the sources cancel; leave them out")]
    write_audio(file, total, sample_rate, subtype="FLOAT", sync=False)
    return []
