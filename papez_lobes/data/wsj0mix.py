"""WSJ0-mix's folder layout: trees of mixtures written in it, and SpeechBrain manifests of them.

`<C>speakers/wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2[,s3]}/<name>.wav`; the file of a mixture
and those of its sources have the same name.
"""

import csv
import io
import multiprocessing
import re
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.audio import audio_info, write_audio, write_bytes
from papez_lobes.data.rendering import render
from papez_lobes.errors import UserError

SPLITS = ("tr", "cv", "tt")


def split_folder(data_folder, split, sample_rate=8000, version="min"):
    """The folder with `mix`, `s1`, ... of a split.

    Example
    -------
    >>> split_folder("2speakers", "tt", 16000, "max").as_posix()
    '2speakers/wav16k/max/tt'
    """
    return Path(data_folder, f"wav{sample_rate // 1000}k", version, split)


def write_tree(plans_by_split, data_folder, sample_rate, root, version="min", jobs=1):
    """Render plans to a tree; an interrupted call is resumed by calling again.

    Every file is rounded to 16 bit by itself, as in WSJ0-mix: whatever the plans come from, a tree
    in its layout is made by its rules. The files of the sources thus sum to the file of the mixture
    to within (C + 1) / 2 steps of 16 bit.

    The plans are kept as `<data_folder>/plans/<split>.jsonl`, for all rates and versions, and a
    tree is only ever continued with the same plans, or with further ones after them: anything else
    is refused rather than mixed with what is there. A mixture is done when all its files exist; its
    mix is written last.

    Arguments
    ---------
    plans_by_split : dict[str, list[MixturePlan]]
    data_folder : str or pathlib.Path
        By convention named `<C>speakers`, as in WSJ0-mix.
    sample_rate : int
        In Hz.
    root : str or pathlib.Path
        The folder that the plans' paths are below.
    version : "min" or "max"
        See `papez_lobes.data.mixing.render`.
    jobs : int
        Processes to render in; the files do not depend on it.

    Raises
    ------
    UserError
        The folder holds other mixtures, a source cannot be read, or nothing can be written.
    """
    folders = {split: split_folder(data_folder, split, sample_rate, version)
               for split in plans_by_split}
    for split, plans in plans_by_split.items():
        _keep_plans(plans, folders[split], data_folder)
    with _workers(jobs) as each:
        for split, plans in plans_by_split.items():
            for leftover in folders[split].glob("*/.*.tmp"):  # of a run that was killed
                leftover.unlink()
            missing = [plan for plan in plans if not _is_done(plan, folders[split])]
            write = partial(_write_mixture, folders[split], sample_rate, root, version)
            for _ in tqdm(each(write, missing), f"mixing {split} {version}", len(plans),
                          unit="mixture", initial=len(plans) - len(missing), disable=None):
                pass


@contextmanager
def _workers(jobs):
    """`map`, over `jobs` processes if there is more than one; no work is left when it closes."""
    if jobs == 1:
        yield map
        return
    # Ctrl-C is for the parent, which then lets the others finish the mixture that they are at.
    executor = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"),
                                   signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)


def _is_done(plan, folder):
    return all(file.exists() for file in mixture_files(folder, plan.name, len(plan.sources)))


def _write_mixture(folder, sample_rate, root, version, plan):
    mixture, sources = render(plan, sample_rate, root, version)
    mix, *files = mixture_files(folder, plan.name, len(plan.sources))
    for file, samples in zip(files, sources.T):
        write_audio(file, samples, sample_rate)
    write_audio(mix, mixture, sample_rate)


def mixture_files(folder, name, num_spks):
    """The C + 1 files of a mixture: mix, s1, ..., sC.

    Example
    -------
    >>> [file.as_posix() for file in mixture_files("tt", "a", 2)]
    ['tt/mix/a.wav', 'tt/s1/a.wav', 'tt/s2/a.wav']
    """
    return [Path(folder, part, f"{name}.wav") for part in _parts(num_spks)]


def _parts(num_spks):
    return ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]


def _keep_plans(plans, folder, data_folder):
    """Keep a split's plans beside its files, or refuse if the files are of other plans."""
    kept = Path(data_folder, "plans", f"{folder.name}.jsonl")
    lines = [plan.to_json() for plan in plans]
    old = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    foreign = not old and any(folder.glob("*/*.wav"))
    if foreign or old != lines[: len(old)]:
        raise UserError(
            f"{folder}: holds mixtures of another plan (other list, seed, count, seconds or "
            "speakers); repeat that one's settings, or choose a new folder"
        )
    if old != lines:
        write_bytes(kept, "".join(f"{line}\n" for line in lines).encode())


def prepare_wsj0mix(
    data_folder, save_folder, num_spks, sample_rate=8000, version="min", splits=SPLITS,
    skip_prep=False,
):
    """Write SpeechBrain manifests of a WSJ0-mix tree, after looking at every file's header.

    A manifest has the columns ID (the files' stem), duration (seconds), mix_wav, s1_wav, ...
    (absolute paths), one line a mixture, sorted by ID.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        The folder of the tree (`.../2speakers`).
    save_folder : str or pathlib.Path
        Where `wsj0mix_<split>.csv` are written.
    num_spks : int
        C, speakers per mixture.
    sample_rate : int
        In Hz; says which of `wav8k` and `wav16k` is meant.
    version : str
        "min" or "max".
    splits : sequence of str
        Which of tr, cv, tt to prepare.
    skip_prep : bool
        Trust manifests that are there already.

    Returns
    -------
    dict[str, pathlib.Path]
        Split -> manifest.

    Raises
    ------
    UserError
        The folder is missing or no WSJ0-mix tree, holds mixtures of another number of speakers,
        has an empty split, files without partners, another sampling rate than asked for,
        unequal lengths, or unreadable files: what training would otherwise trip over.
    """
    manifests = {split: Path(save_folder, f"wsj0mix_{split}.csv") for split in splits}
    if skip_prep:
        for manifest in manifests.values():
            if not manifest.exists():
                raise UserError(f"{manifest}: no such manifest; run once without skip_prep")
        return manifests
    data_folder = Path(data_folder).expanduser().absolute()
    folders = {split: split_folder(data_folder, split, sample_rate, version) for split in splits}
    _check_layout(data_folder, folders.values(), num_spks)
    for folder in folders.values():  # all names first: it is quick, reading headers is not
        _check_names(folder, num_spks)
    for split, folder in folders.items():
        write_bytes(manifests[split], _manifest(folder, num_spks, sample_rate).encode())
    return manifests


def _check_layout(data_folder, folders, num_spks):
    if not data_folder.is_dir():
        raise UserError(f"{data_folder}: no such folder; set data_folder to a WSJ0-mix folder "
                        f"(.../{num_spks}speakers)")
    if re.search(r"\$\w", str(data_folder)):  # SpeechBrain would take it for a variable
        raise UserError(f"{data_folder}: manifests cannot hold a path with a $ in it; rename it")
    nested = data_folder / f"{num_spks}speakers"
    for folder in folders:
        found = _speakers_found(folder)
        if found and found != num_spks:
            raise UserError(
                f"{folder}: holds mixtures of {found} speaker(s), but num_spks is {num_spks}; set "
                f"num_spks to {found}, or data_folder to a {num_spks}-speaker tree"
            )
        for part in _parts(num_spks):
            if not (folder / part).is_dir():
                hint = f"did you mean {nested}?" if nested.is_dir() else (
                    "check data_folder, sample_rate and version")
                raise UserError(f"{data_folder}: not a WSJ0-mix tree, it has no "
                                f"{(folder / part).relative_to(data_folder)}; {hint}")


def _speakers_found(folder):
    """The number of source folders s1, s2, ... in a row."""
    number = 0
    while (folder / f"s{number + 1}").is_dir():
        number += 1
    return number


def _names(folder):
    return {path.stem for path in folder.glob("*.wav") if not path.name.startswith(".")}


def _check_names(folder, num_spks):
    mixtures = _names(folder / "mix")
    if not mixtures:
        raise UserError(f"{folder / 'mix'}: holds no .wav files; this split is empty")
    for part in _parts(num_spks)[1:]:
        odd = sorted(mixtures ^ _names(folder / part))
        if odd:
            raise UserError(f"{folder}: {_few(odd)} found in only one of mix and {part}; "
                            "the tree is incomplete, make or copy it again")


def _manifest(folder, num_spks, sample_rate):
    """The manifest's text; one UserError for all the mixtures whose lengths differ."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = _parts(num_spks)
    writer.writerow(["ID", "duration", *(f"{part}_wav" for part in parts)])
    unequal = []
    names = sorted(_names(folder / "mix"))
    for name in tqdm(names, desc=f"checking {folder.name}", unit="mixture", disable=None):
        files = mixture_files(folder, name, num_spks)
        infos = [audio_info(file) for file in files]
        _check_headers(files, infos, sample_rate)
        if len({info.frames for info in infos}) > 1:
            unequal.append(name)
        writer.writerow([name, infos[0].seconds, *files])
    if unequal:
        raise UserError(f"{folder}: mixture and sources differ in length for {_few(unequal)}; "
                        "make or copy them again")
    return text.getvalue()


def _check_headers(files, infos, sample_rate):
    for file, info in zip(files, infos):
        if info.sample_rate != sample_rate:
            raise UserError(f"{file}: is sampled at {info.sample_rate} Hz, not {sample_rate}; "
                            "set sample_rate, or use the tree of that rate")
        if info.channels != 1 or info.frames == 0:
            raise UserError(f"{file}: has {info.channels} channels of {info.frames} samples; "
                            "WSJ0-mix files have one channel and are not empty")


def _few(names, shown=3):
    """'3 mixtures (a, b, c)' with at most `shown` names.

    Example
    -------
    >>> _few(["a", "b", "c", "d"])
    '4 mixture(s) (a, b, c, ...)'
    """
    dots = ", ..." if len(names) > shown else ""
    return f"{len(names)} mixture(s) ({', '.join(names[:shown])}{dots})"
