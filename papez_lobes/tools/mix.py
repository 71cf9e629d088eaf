"""Make mixtures, in WSJ0-mix's folder layout, from folders of speakers or from lists.

`papez mix SPEAKERS OUT` draws mixtures; `papez mix ROOT OUT --list tr=mix_2_spk_tr.txt ...` makes
those of lists, which is how WSJ0-2Mix and WSJ0-3Mix are made from WSJ0; `papez mix SPEAKERS
--write-lists FOLDER` draws lists.
"""

import argparse
import math
import sys
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
from papez_lobes.data.mixtures.plans import plan_mixtures
from papez_lobes.data.mixtures.speakers import (
    FRACTIONS,
    scan_speakers,
    split_speakers,
    split_utterances,
)
from papez_lobes.errors import UserError

COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}  # WSJ0-mix's
# Options of drawing, which say nothing beside --list. They are absent unless given, so that this
# shows, and `draw_plans` has their defaults.
DRAWING = ("num_spks", "count", "seconds", "seed", "split_by", "tsv")


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("root", metavar="SPEAKERS", help="folder with one subfolder per "
                        "speaker, VCTK's, or that of a language of Common Voice; "
                        "with --list, the folder that the lists' paths are below")
    parser.add_argument("out", nargs="?", metavar="OUT",
                        help="folder to make; the mixtures go to <C>speakers in it")
    _add_rendering(parser)
    _add_drawing(parser)


def _add_rendering(parser):
    parser.add_argument(
        "--list", nargs="+", type=_list, dest="lists", metavar="SPLIT=FILE",
        help="make the mixtures of these lists (lines `path gain path gain ...`), e.g. WSJ0-mix's; "
        "a file may also end in .wv1 or .flac where the list says .wav",
    )
    parser.add_argument(
        "--write-lists", metavar="FOLDER",
        help="draw mixtures of whole utterances and write their lists; made only if OUT is given",
    )
    parser.add_argument("--sample-rate", nargs="+", type=int, default=[8000], metavar="HZ",
                        help="one or more, e.g. 8000 16000 (default 8000)")
    parser.add_argument(
        "--version", nargs="+", choices=("min", "max"), default=["min"],
        help="cut to the shortest source, or padded to the longest, or both (default min)",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="processes to mix in; same files, sooner (default 1)")


def _add_drawing(parser):
    drawing = parser.add_argument_group("drawing mixtures, without --list")
    absent = {"default": argparse.SUPPRESS}
    drawing.add_argument("--num-spks", type=int, metavar="C", help="(default 2)", **absent)
    drawing.add_argument(
        "--count", nargs="+", type=_count, metavar="SPLIT=COUNT", **absent,
        help="mixtures of each split, tr, cv and tt; a split that is not named is not made "
        "(default tr=20000 cv=5000 tt=3000)",
    )
    drawing.add_argument("--seconds", nargs=2, type=float, metavar=("MIN", "MAX"), **absent,
                         help="lengths of mixtures (default 4 8; lists have whole utterances)")
    drawing.add_argument("--seed", type=int, **absent,
                         help="same seed, same mixtures (default 0)")
    drawing.add_argument("--tsv", metavar="TABLE", **absent,
                         help="of a Common Voice folder (default train.tsv or validated.tsv)")
    drawing.add_argument("--split-by", choices=("utterance", "speaker"), **absent,
                         help="what the splits do not share (default utterance)")


def run(arguments):
    """Make what was asked for, and say where it is."""
    drawing = {name: getattr(arguments, name) for name in DRAWING if name in arguments}
    _check_asked(arguments, drawing)
    _check_rates(arguments.sample_rate)
    if arguments.lists:
        plans = read_lists(dict(arguments.lists), arguments.root)
    else:
        counts = dict(drawing.pop("count", COUNTS))
        if arguments.write_lists:
            drawing["seconds"] = None
        plans = draw_plans(arguments.root, counts, **drawing)
    if arguments.write_lists:
        for path in write_lists(plans, arguments.write_lists):
            print(path)
    if arguments.out:
        print(render_plans(plans, arguments.out, arguments.root, arguments.sample_rate,
                           arguments.version, arguments.jobs))


def mix_tree(speakers_folder, out, counts, num_spks=2, seconds=(4.0, 8.0), sample_rate=8000,
             seed=0, split_by="utterance"):
    """Make a tree of mixtures from a folder of speakers; an interrupted call can be repeated.

    Arguments
    ---------
    speakers_folder, counts, num_spks, seconds, seed, split_by
        See `draw_plans`.
    out : str or pathlib.Path
        The tree is `out/<C>speakers`.
    sample_rate : int
        In Hz, a multiple of 1000.

    Returns
    -------
    pathlib.Path
        The tree, a `data_folder` for `prepare_wsj0mix`.

    Raises
    ------
    UserError
        An argument is out of range, or see `scan_speakers`, `plan_mixtures` and `write_tree`.

    Example
    -------
    >>> mix_tree("speakers", "out", {"tr": 10}, num_spks=0)
    Traceback (most recent call last):
    papez_lobes.errors.UserError: num_spks 0: must be 1 or more
    """
    _check_rates([sample_rate])
    plans = draw_plans(speakers_folder, counts, num_spks, seconds, seed, split_by)
    return render_plans(plans, out, speakers_folder, [sample_rate])


def draw_plans(speakers_folder, counts, num_spks=2, seconds=(4.0, 8.0), seed=0,
               split_by="utterance", tsv=None):
    """Draw the mixtures of each split from a folder of speakers.

    Speech is divided 8 : 1 : 1 among those of tr, cv and tt that are asked for: a single split
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


def read_lists(lists, root):
    """Read the list of each split, and look at every file that it names.

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


def write_lists(plans, folder):
    """Write the list of each split to a folder, under WSJ0-mix's names; returns their paths."""
    paths = []
    for split, part in plans.items():
        paths.append(Path(folder, list_name(len(part[0].sources), split)))
        write_list(part, paths[-1])
    return paths


def render_plans(plans, out, root, sample_rates, versions=("min",), jobs=1):
    """Render the plans of each split, at each rate and in each version, to `out/<C>speakers`."""
    num_spks = len(next(iter(plans.values()))[0].sources)
    tree = Path(out) / f"{num_spks}speakers"
    for rate, version in product(sample_rates, versions):
        write_tree(plans, tree, rate, root, version, jobs)
    return tree


def _split(speakers, counts, num_spks, seed, split_by):
    asked = {split: FRACTIONS[split] for split in SPLITS if split in counts}
    fractions = {split: share / sum(asked.values()) for split, share in asked.items()}
    if split_by == "speaker":
        return split_speakers(speakers, fractions, seed, min_speakers=num_spks)
    return split_utterances(speakers, fractions, seed)


def _check_asked(arguments, drawing):
    """Refuse options that would be passed over in silence."""
    if not arguments.out and not arguments.write_lists:
        raise UserError("no OUT: name the folder to make (or --write-lists FOLDER)")
    flags = [*drawing, *(["write_lists"] if arguments.write_lists else [])]
    if arguments.lists and flags:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in flags)
        raise UserError(f"{flags}: not with --list, which says all of that; leave one out")
    if arguments.write_lists and "seconds" in drawing:
        raise UserError("--seconds: not with --write-lists, as lists hold whole utterances")
    if arguments.lists and len(dict(arguments.lists)) < len(arguments.lists):
        raise UserError("--list: names a split twice; put its lists into one file")
    if arguments.jobs < 1:
        raise UserError(f"jobs {arguments.jobs}: must be 1 or more")


def _check_rates(sample_rates):
    for rate in sample_rates:
        if rate < 1000 or rate % 1000:
            raise UserError(f"sample_rate {rate}: must be a multiple of 1000 Hz, as in wav8k")


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


def _count(text):
    """'tr=100' as ('tr', 100)."""
    split, _, count = text.partition("=")
    if split not in SPLITS or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write it as tr=20000, for tr, cv or tt")
    return split, int(count)


def _list(text):
    """'tr=mix_2_spk_tr.txt' as ('tr', 'mix_2_spk_tr.txt')."""
    split, _, path = text.partition("=")
    if split not in SPLITS or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as tr=FILE, for tr, cv or tt")
    return split, path
