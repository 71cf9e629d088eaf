"""Trees of mixtures in WSJ0-mix's folder layout, from folders of speakers or from lists."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.wsj0mix import mixture_files, split_folder
from papez_lobes.data.manifests import SPLITS
from papez_lobes.data.mixtures.lists import read_list, unusable_files, write_list
from papez_lobes.data.mixtures.plans import MixturePlan, draw_utterances, plan_mixtures
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.rules import MixingRules
from papez_lobes.data.mixtures.speakers import scan_speakers, split_speech
from papez_lobes.errors import UserError
from papez_lobes.files import has_content, write_bytes

COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}  # mixtures of WSJ0-mix
Plans = dict[str, list[MixturePlan]]  # split -> plans


def draw_plans(
    speakers_folder: str | Path, counts: dict[str, int] = COUNTS, num_spks: int = 2,
    seconds: tuple[float, float] | None = (4.0, 8.0), seed: int = 0, split_by: str = "utterance",
    tsv: str | None = None, **conversation,
) -> Plans:
    """Draw the mixtures of each split, as many as `counts` says, from a folder of speakers.

    Speech is divided 8 : 1 : 1 among those of tr, cv and tt that are asked for. A single split
    gets all of it, so that a corpus with a test folder of its own can be mixed folder by folder.
    `split_by` is "utterance" or "speaker", which the splits do not share. `seconds` are those of
    the shortest and longest mixture; None: of whole utterances, as in WSJ0-mix, on which
    `conversation` (overlap, turns, single_speaker and pause_seconds of `MixingRules`) has no
    effect. For the folder and `tsv` see `papez_lobes.data.mixtures.speakers.find_speech`.

    The plans' paths are below the folder. UserError if an argument is out of range, or there are
    too few speakers or utterances.
    """
    for split, count in counts.items():
        if split not in SPLITS or count < 1:
            raise UserError(f"count {split}={count}: must be tr, cv or tt, and 1 or more")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
    MixingRules(num_spks, seconds or MixingRules.seconds, **conversation)  # before the scan
    speakers, skipped = scan_speakers(speakers_folder, tsv=tsv)
    if skipped:
        path, reason = skipped[0]
        print(f"{speakers_folder}: {len(skipped)} unreadable file(s) left out, {path} ({reason})")
    plans = {}
    for split, part in split_speech(speakers, counts, num_spks, seed, split_by).items():
        # The split's number keeps its draws apart from the other splits', whichever are made.
        key = (seed, SPLITS.index(split))
        if seconds is None:
            plans[split] = draw_utterances(part, counts[split], num_spks, seed=key)
        else:
            plans[split] = plan_mixtures(part, counts[split], num_spks, seconds, key,
                                         **conversation)
    return plans


def read_lists(lists: dict[str, str | Path], root: str | Path) -> Plans:
    """Read the list of each split, and check every file that it names below a root.

    UserError if a list is wrong (see `read_list`), the lists are of different numbers of speakers,
    or some files cannot be used; each of these is printed with the reason.
    """
    plans = {split: read_list(path) for split, path in lists.items()}
    found = {len(part[0].sources) for part in plans.values()}
    if len(found) > 1:
        raise UserError(f"{', '.join(map(str, lists.values()))}: are of {sorted(found)} speakers; "
                        "make mixtures of one number at a time")
    everything = [plan for part in plans.values() for plan in part]
    unusable = unusable_files(everything, root)
    for path, reason in unusable:
        print(f"{path}: {reason}", file=sys.stderr)
    if unusable:
        top = Path(everything[0].sources[0].pieces[0].path).parts[0]
        raise UserError(f"{root}: {len(unusable)} file(s) of the lists cannot be used, as listed "
                        f"above; nothing was mixed (is this the folder that holds {top}?)")
    return plans


def write_lists(plans: Plans, folder: str | Path) -> list[Path]:
    """Write the list of each split to a folder, under WSJ0-mix's names; returns their paths."""
    paths = []
    for split, part in plans.items():
        paths.append(Path(folder, f"mix_{len(part[0].sources)}_spk_{split}.txt"))
        write_list(part, paths[-1])
    return paths


def render_plans(
    plans: Plans, out: str | Path, root: str | Path, sample_rates: Sequence[int],
    versions: Sequence[str] = ("min",), jobs: int = 1,
) -> Path:
    """Render the plans of each split, at each rate and in each version, to `out/<C>speakers`.

    Every file is rounded to 16 bit by itself, as in WSJ0-mix. The files of the sources thus sum to
    the file of the mixture to within (C + 1) / 2 steps of 16 bit. They do not depend on `jobs`, the
    number of processes.

    An interrupted call can be repeated. A mixture is done when all its files have content; its mix
    is written last. The plans are kept as `plans/<split>.jsonl` in the tree, for all rates and
    versions. A tree is only continued with the same plans, or with further ones after them.

    The plans' paths are below `root`. Rates are in Hz, multiples of 1000, and versions those of
    `papez_lobes.data.mixtures.rendering.render`. Returns the tree, a `data_folder` for
    `prepare_wsj0mix`. UserError if a rate is wrong, the tree holds other mixtures, a source cannot
    be read, or nothing can be written.
    """
    check_rates(sample_rates)
    num_spks = len(next(iter(plans.values()))[0].sources)
    tree = Path(out) / f"{num_spks}speakers"
    for split, part in plans.items():
        _keep_plans(part, split, tree)
    with _workers(jobs) as each:
        for rate, version, (split, part) in product(sample_rates, versions, plans.items()):
            folder = split_folder(tree, split, rate, version)
            for leftover in folder.glob("*/.*.tmp"):  # of a run that was killed
                leftover.unlink()
            missing = [plan for plan in part if not all(
                map(has_content, mixture_files(folder, plan.name, num_spks)))]
            write = partial(_write_mixture, folder, rate, root, version)
            for _ in tqdm(each(write, missing), f"mixing {split} {version}", len(part),
                          unit="mixture", initial=len(part) - len(missing), disable=None):
                pass
    return tree


def check_rates(sample_rates: Sequence[int]) -> None:
    """Raise UserError for a rate in Hz that WSJ0-mix's folder names cannot express."""
    for rate in sample_rates:
        if rate < 1000 or rate % 1000:
            raise UserError(f"sample_rate {rate}: must be a multiple of 1000 Hz, as in wav8k")


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


def _write_mixture(
    folder: Path, sample_rate: int, root: str | Path, version: str, plan: MixturePlan
) -> None:
    """Render one mixture to its files."""
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


def _keep_plans(plans: list[MixturePlan], split: str, tree: Path) -> None:
    """Keep a split's plans in the tree, or refuse if its files are of other plans.

    Plans of which nothing has been made yet, as a run leaves that failed at its first mixture, are
    replaced.
    """
    kept = tree / "plans" / f"{split}.jsonl"
    lines = [plan.to_json() for plan in plans]
    old = os.fsdecode(kept.read_bytes()).splitlines() if kept.exists() else []
    made = any(tree.glob(f"wav*/*/{split}/*/*.wav"))  # at any rate
    if made and (not old or old != lines[: len(old)]):
        raise UserError(
            f"{tree}: holds mixtures of another plan for {split} (other list, seed, count, seconds "
            "or speakers); repeat that one's settings, or choose a new folder"
        )
    if old != lines:
        write_bytes(kept, os.fsencode("".join(f"{line}\n" for line in lines)))
