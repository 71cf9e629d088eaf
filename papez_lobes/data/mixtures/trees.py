"""Trees of mixtures in WSJ0-mix's folder layout, from folders of speakers or from lists."""

import math
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from papez_lobes.data.corpora.wsj0mix import write_tree
from papez_lobes.data.manifests import SPLITS
from papez_lobes.data.mixtures.lists import (
    draw_utterances,
    list_name,
    read_list,
    unusable_files,
    write_list,
)
from papez_lobes.data.mixtures.plans import MixturePlan, plan_mixtures
from papez_lobes.data.mixtures.speakers import (
    FRACTIONS,
    scan_speakers,
    split_speakers,
    split_utterances,
)
from papez_lobes.errors import UserError

COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}  # mixtures of WSJ0-mix
Plans = dict[str, list[MixturePlan]]  # split -> plans


def draw_plans(
    speakers_folder: str | Path, counts: dict[str, int] = COUNTS, num_spks: int = 2,
    seconds: tuple[float, float] | None = (4.0, 8.0), seed: int = 0, split_by: str = "utterance",
    tsv: str | None = None,
) -> Plans:
    """Draw the mixtures of each split from a folder of speakers.

    Speech is divided 8 : 1 : 1 among those of tr, cv and tt that are asked for. A single split
    gets all of it, so that a corpus with a test folder of its own can be mixed folder by folder.

    Arguments
    ---------
    speakers_folder : str or pathlib.Path
        One subfolder per speaker, see `papez_lobes.data.mixtures.speakers.scan_speakers`.
    counts : dict[str, int]
        Mixtures of each split.
    num_spks, seed
        See `papez_lobes.data.mixtures.plans.plan_mixtures`.
    seconds : tuple[float, float] or None
        Shortest and longest mixture; None: of whole utterances, as in WSJ0-mix.
    split_by : "utterance" or "speaker"
        What the splits do not share.
    tsv : str or None
        Table of a Common Voice folder, see `scan_speakers`.

    Returns
    -------
    dict[str, list[MixturePlan]]
        Split -> plans, whose paths are below `speakers_folder`.

    Raises
    ------
    UserError
        An argument is out of range, or there are too few speakers or utterances.

    Example
    -------
    >>> draw_plans("speakers", {"tr": 10}, num_spks=0)
    Traceback (most recent call last):
    papez_lobes.errors.UserError: num_spks 0: must be 1 or more
    """
    _check_drawing(counts, num_spks, seconds, seed)
    speakers, skipped = scan_speakers(speakers_folder, tsv=tsv)
    if skipped:
        path, reason = skipped[0]
        print(f"{speakers_folder}: {len(skipped)} unreadable file(s) left out, {path} ({reason})")
    plans = {}
    for split, part in _split(speakers, counts, num_spks, seed, split_by).items():
        if len(part) < num_spks and len(speakers) >= num_spks * len(counts):
            raise UserError(f"{split}: only {len(part)} of {len(speakers)} speakers have enough "
                            "utterances for every split; divide by voices: --split-by speaker")
        # The split's number keeps its draws apart from the other splits', whichever are made.
        key = (seed, SPLITS.index(split))
        if seconds is None:
            plans[split] = draw_utterances(part, counts[split], num_spks, seed=key)
        else:
            plans[split] = plan_mixtures(part, counts[split], num_spks, seconds, seed=key)
    return plans


def read_lists(lists: dict[str, str | Path], root: str | Path) -> Plans:
    """Read the list of each split, and check every file that it names.

    Arguments
    ---------
    lists : dict[str, str or pathlib.Path]
        Split -> list.
    root : str or pathlib.Path
        The folder that the lists' paths are below.

    Returns
    -------
    dict[str, list[MixturePlan]]

    Raises
    ------
    UserError
        See `read_list`; the lists are of different numbers of speakers; or some files cannot be
        used, each of which has been printed with the reason.
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
        paths.append(Path(folder, list_name(len(part[0].sources), split)))
        write_list(part, paths[-1])
    return paths


def render_plans(
    plans: Plans, out: str | Path, root: str | Path, sample_rates: Sequence[int],
    versions: Sequence[str] = ("min",), jobs: int = 1,
) -> Path:
    """Render the plans of each split, at each rate and in each version, to `out/<C>speakers`.

    An interrupted call can be repeated, see `write_tree`.

    Arguments
    ---------
    plans : dict[str, list[MixturePlan]]
        Split -> plans.
    out, root : str or pathlib.Path
        Where to, and the folder that the plans' paths are below.
    sample_rates : sequence of int
        In Hz, multiples of 1000.
    versions : sequence of "min" or "max"
        Cut to the shortest source, or padded to the longest.
    jobs : int
        Processes to render in; the files do not depend on it.

    Returns
    -------
    pathlib.Path
        The tree, a `data_folder` for `prepare_wsj0mix`.

    Raises
    ------
    UserError
        A rate is wrong, or see `write_tree`.
    """
    check_rates(sample_rates)
    num_spks = len(next(iter(plans.values()))[0].sources)
    tree = Path(out) / f"{num_spks}speakers"
    for rate, version in product(sample_rates, versions):
        write_tree(plans, tree, rate, root, version, jobs)
    return tree


def check_rates(sample_rates: Sequence[int]) -> None:
    """Raise UserError for a rate in Hz that WSJ0-mix's folder names cannot express."""
    for rate in sample_rates:
        if rate < 1000 or rate % 1000:
            raise UserError(f"sample_rate {rate}: must be a multiple of 1000 Hz, as in wav8k")


def _split(speakers, counts, num_spks, seed, split_by):
    asked = {split: FRACTIONS[split] for split in SPLITS if split in counts}
    fractions = {split: share / sum(asked.values()) for split, share in asked.items()}
    if split_by == "speaker":
        return split_speakers(speakers, fractions, seed, min_speakers=num_spks)
    return split_utterances(speakers, fractions, seed)


def _check_drawing(counts, num_spks, seconds, seed):
    for split, count in counts.items():
        if split not in SPLITS or count < 1:
            raise UserError(f"count {split}={count}: must be tr, cv or tt, and 1 or more")
    if num_spks < 1:
        raise UserError(f"num_spks {num_spks}: must be 1 or more")
    if seconds is not None and not 0 < seconds[0] <= seconds[1] < math.inf:
        raise UserError(f"seconds {seconds[0]:g} {seconds[1]:g}: must be positive and finite, "
                        "shortest first")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
