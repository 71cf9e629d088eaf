"""Mixtures as a corpus has them, and what is wrong with their files."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from papez_lobes.data.audio import audio_info, read_audio, write_audio
from papez_lobes.errors import UserError

SILENT = 2.0**-15  # one step of 16 bit: a file that is nowhere louder holds no speech


@dataclass(frozen=True)
class Mixture:
    """A mixture as its corpus has it, not looked at yet.

    Arguments
    ---------
    name : str
        Its ID in the manifest.
    files : tuple[pathlib.Path, ...]
        C + 1 absolute paths: mixture, source 1, ..., source C.
    frames : int or None
        Its length in samples, if the corpus says so elsewhere than in the files.
    flaw : str or None
        What makes it unusable whatever its files hold.
    summed : bool
        The corpus has no file of the mixture: the first path is to become the sum of the others.
    """

    name: str
    files: tuple[Path, ...]
    frames: int | None = None
    flaw: str | None = None
    summed: bool = False


def inspect_mixture(mixture, sample_rate, check_audio=True):
    """Look at the files of one mixture; makes the file of a mixture that is `summed`.

    Arguments
    ---------
    mixture : Mixture
    sample_rate : int
        In Hz, that all files must have.
    check_audio : bool
        Decode them.

    Returns
    -------
    seconds : float
        Its duration; 0 if there are problems.
    problems : list[tuple[pathlib.Path, str]]
        (path, reason); empty if the mixture can be used.

    Example
    -------
    >>> inspect_mixture(Mixture("a", (Path("/no/mix.wav"),)), sample_rate=8000)
    (0.0, [(PosixPath('/no/mix.wav'), 'no such file; name an audio file')])
    """
    if mixture.flaw:
        return 0.0, [(mixture.files[0], mixture.flaw)]
    files = mixture.files[1:] if mixture.summed else mixture.files
    infos, problems = _look(files, partial(_info, sample_rate=sample_rate))
    lengths = {file.parent.name: info.frames for file, info in zip(files, infos)}
    if not problems and mixture.frames is not None:
        lengths["metadata"] = mixture.frames
    if not problems and len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {frames}" for name, frames in lengths.items())
        problems = [(files[0], f"lengths differ ({text} samples); make or copy the mixture again")]
    if not problems and (check_audio or mixture.summed):
        signals, problems = _look(files, _audible)
    if mixture.summed:
        problems = problems or _write_sum(mixture.files[0], signals, sample_rate)
    return (0.0 if problems else infos[0].seconds), problems


def _write_sum(file, signals, sample_rate):
    """Write the sum to a file of float samples, which can exceed full scale; returns problems."""
    total = np.sum(signals, axis=0)
    if np.abs(total).max() <= SILENT:
        return [(file, "would be silent, as the sources cancel; leave them out")]
    write_audio(file, total, sample_rate, subtype="FLOAT")
    return []


def _look(files, read):
    """(what `read` gives for each file, (file, reason) for those where it raises UserError)."""
    results, problems = [], []
    for file in files:
        try:
            results.append(read(file))
        except UserError as error:
            problems.append((file, str(error).removeprefix(f"{file}: ")))
    return results, problems


def _info(file, sample_rate):
    info = audio_info(file)
    if info.sample_rate != sample_rate:
        raise UserError(f"is sampled at {info.sample_rate} Hz, not {sample_rate}; set sample_rate, "
                        "or name the folder of that rate")
    if info.channels != 1:
        raise UserError(f"has {info.channels} channels; make it one, or leave it out")
    if info.frames == 0:
        raise UserError("holds no samples; leave it out")
    return info


def _audible(file):
    samples = read_audio(file)
    if np.abs(samples).max() <= SILENT:
        raise UserError("is silent; leave it out")
    return samples
