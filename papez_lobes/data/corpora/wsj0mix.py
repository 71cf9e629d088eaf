"""WSJ0-mix: trees of mixtures in its folder layout, and SpeechBrain manifests of them.

`<C>speakers/wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2[,s3]}/<name>.wav`; the file of a mixture
and those of its sources have the same name.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.audio import write_audio
from papez_lobes.data.folders import (
    absolute,
    check_parts,
    check_speakers,
    corpus_folder,
    paired_files,
    rate_folder,
    source_names,
)
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.data.mixtures.plans import MixturePlan
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.errors import UserError
from papez_lobes.files import has_content, write_bytes


def split_folder(
    data_folder: str | Path, split: str, sample_rate: int = 8000, version: str = "min"
) -> Path:
    """Return the folder with `mix`, `s1`, ... of a split.

    Example
    -------
    >>> split_folder("2speakers", "tt", 16000, "max").as_posix()
    '2speakers/wav16k/max/tt'
    """
    return rate_folder(data_folder, sample_rate, version) / split


def write_tree(
    plans_by_split: dict[str, list[MixturePlan]], data_folder: str | Path, sample_rate: int,
    root: str | Path, version: str = "min", jobs: int = 1,
) -> None:
    """Render plans to a tree. An interrupted call is resumed by calling again.

    Every file is rounded to 16 bit by itself, as in WSJ0-mix. The files of the sources thus sum to
    the file of the mixture to within (C + 1) / 2 steps of 16 bit.

    The plans are kept as `<data_folder>/plans/<split>.jsonl`, for all rates and versions. A tree is
    only continued with the same plans, or with further ones after them; other plans are refused. A
    mixture is done when all its files have content; its mix is written last.

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
        See `papez_lobes.data.mixtures.rendering.render`.
    jobs : int
        Processes to render in. The files do not depend on it.

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
def _workers(jobs: int) -> Iterator[Callable]:
    """Yield `map`, over `jobs` processes if that is more than one; no work is left at the end."""
    if jobs == 1:
        yield map
        return
    # Ctrl-C reaches the parent alone, which lets the others finish their current mixtures.
    executor = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"),
                                   signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)


def _is_done(plan: MixturePlan, folder: Path) -> bool:
    return all(map(has_content, mixture_files(folder, plan.name, len(plan.sources))))


def _write_mixture(
    folder: Path, sample_rate: int, root: str | Path, version: str, plan: MixturePlan
) -> None:
    try:
        mixture, sources = render(plan, sample_rate, root, version)
    except UserError as error:
        raise UserError(f"{error}. With a good file in its place, the same command goes on at this "
                        f"mixture ({plan.name}); without it, other mixtures are drawn, for which "
                        "choose a new folder") from error
    mix, *files = mixture_files(folder, plan.name, len(plan.sources))
    for file, samples in zip(files, sources.T):
        write_audio(file, samples, sample_rate, sync=False)
    write_audio(mix, mixture, sample_rate, sync=False)


def mixture_files(folder: str | Path, name: str, num_spks: int) -> list[Path]:
    """Return the C + 1 files of a mixture: mix, s1, ..., sC.

    Example
    -------
    >>> [file.as_posix() for file in mixture_files("tt", "a", 2)]
    ['tt/mix/a.wav', 'tt/s1/a.wav', 'tt/s2/a.wav']
    """
    return [Path(folder, part, f"{name}.wav") for part in _parts(num_spks)]


def _parts(num_spks: int) -> list[str]:
    return ["mix", *source_names(num_spks)]


def _keep_plans(plans: list[MixturePlan], folder: Path, data_folder: str | Path) -> None:
    """Keep a split's plans beside its files, or refuse if the files are of other plans.

    Plans of which nothing has been made yet, as a run leaves that failed at its first mixture, are
    replaced.
    """
    kept = Path(data_folder, "plans", f"{folder.name}.jsonl")
    lines = [plan.to_json() for plan in plans]
    old = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    made = any(Path(data_folder).glob(f"wav*/*/{folder.name}/*/*.wav"))  # at any rate
    if made and (not old or old != lines[: len(old)]):
        raise UserError(
            f"{folder}: holds mixtures of another plan (other list, seed, count, seconds or "
            "speakers); repeat that one's settings, or choose a new folder"
        )
    if old != lines:
        write_bytes(kept, "".join(f"{line}\n" for line in lines).encode())


def prepare_wsj0mix(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    version: str = "min", **options,
) -> dict[str, Path]:
    """Write SpeechBrain manifests of a WSJ0-mix tree, after inspecting every file.

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
    **options
        splits, check_audio, check_sums, leave_out_damaged and skip_prep of
        `papez_lobes.data.manifests.prepare_manifests`.

    Returns
    -------
    dict[str, pathlib.Path]
        Split (tr, cv, tt) -> manifest.

    Raises
    ------
    UserError
        The folder is missing or no WSJ0-mix tree, or holds mixtures of another number of
        speakers; or see `prepare_manifests`.
    """
    find = partial(_find, data_folder, num_spks, sample_rate, version)
    about = {"data_folder": absolute(data_folder), "version": version}
    return prepare_manifests("wsj0mix", find, save_folder, num_spks, sample_rate, about, **options)


def _find(
    data_folder: str | Path, num_spks: int, sample_rate: int, version: str, split: str
) -> list[Mixture]:
    data_folder = corpus_folder(data_folder, f"a WSJ0-mix folder (.../{num_spks}speakers)")
    folder = split_folder(data_folder, split, sample_rate, version)
    check_speakers(folder, num_spks, data_folder)
    nested = data_folder / f"{num_spks}speakers"
    hint = "check data_folder, sample_rate and version"
    if nested.is_dir():
        hint = f"did you mean {nested}?"
    check_parts(folder, _parts(num_spks), data_folder, "a WSJ0-mix tree", hint)
    return paired_files(folder, _parts(num_spks))
