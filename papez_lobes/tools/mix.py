"""Make mixtures, in WSJ0-mix's folder layout, from folders of speakers."""

import argparse
from pathlib import Path

from papez_lobes.data.mixing import plan_mixtures
from papez_lobes.data.speakers import FRACTIONS, scan_speakers, split_speakers, split_utterances
from papez_lobes.data.wsj0mix import SPLITS, write_tree
from papez_lobes.errors import UserError

COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}  # WSJ0-mix's


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("speakers", help="folder with one subfolder per speaker")
    parser.add_argument("out", help="folder to make; the mixtures go to <C>speakers in it")
    parser.add_argument("--num-spks", type=int, default=2, metavar="C", help="(default 2)")
    parser.add_argument(
        "--count", nargs="+", type=_count, default=list(COUNTS.items()), metavar="SPLIT=COUNT",
        help="mixtures of each split, tr, cv and tt; a split that is not named is not made "
        "(default tr=20000 cv=5000 tt=3000)",
    )
    parser.add_argument(
        "--seconds", nargs=2, type=float, default=(4.0, 8.0), metavar=("MIN", "MAX"),
        help="lengths of mixtures (default 4 8)",
    )
    parser.add_argument("--sample-rate", type=int, default=8000, metavar="HZ",
                        help="(default 8000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same mixtures (default 0)")
    parser.add_argument(
        "--split-by", choices=("utterance", "speaker"), default="utterance",
        help="what the splits do not share (default utterance)",
    )


def run(arguments):
    """Make the tree and say where it is."""
    tree = mix_tree(
        arguments.speakers,
        arguments.out,
        counts=dict(arguments.count),
        num_spks=arguments.num_spks,
        seconds=tuple(arguments.seconds),
        sample_rate=arguments.sample_rate,
        seed=arguments.seed,
        split_by=arguments.split_by,
    )
    print(tree)


def mix_tree(
    speakers_folder, out, counts, num_spks=2, seconds=(4.0, 8.0), sample_rate=8000, seed=0,
    split_by="utterance",
):
    """Make a tree of mixtures from a folder of speakers; an interrupted call can be repeated.

    Speech is divided 8 : 1 : 1 among those of tr, cv and tt that are asked for: a single split
    gets all of it, so that a corpus with a test folder of its own can be mixed folder by folder.

    Arguments
    ---------
    speakers_folder : str or pathlib.Path
        One subfolder per speaker, see `papez_lobes.data.speakers.scan_speakers`.
    out : str or pathlib.Path
        The tree is `out/<C>speakers`.
    counts : dict[str, int]
        Mixtures of each split.
    num_spks, seconds, seed
        See `papez_lobes.data.mixing.plan_mixtures`.
    sample_rate : int
        In Hz, a multiple of 1000.
    split_by : "utterance" or "speaker"
        What the splits do not share.

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
    _check(counts, num_spks, seconds, sample_rate, seed)
    speakers, skipped = scan_speakers(speakers_folder)
    if skipped:
        path, reason = skipped[0]
        print(f"{speakers_folder}: {len(skipped)} unreadable file(s) left out, {path} ({reason})")
    plans = {}
    for split, part in _split(speakers, counts, num_spks, seed, split_by).items():
        # The split's number keeps its draws apart from the other splits', whichever are made.
        key = (seed, SPLITS.index(split))
        plans[split] = plan_mixtures(part, counts[split], num_spks, seconds, seed=key)
    tree = Path(out) / f"{num_spks}speakers"
    write_tree(plans, tree, sample_rate, root=speakers_folder)
    return tree


def _split(speakers, counts, num_spks, seed, split_by):
    asked = {split: FRACTIONS[split] for split in SPLITS if split in counts}
    fractions = {split: share / sum(asked.values()) for split, share in asked.items()}
    if split_by == "speaker":
        return split_speakers(speakers, fractions, seed, min_speakers=num_spks)
    return split_utterances(speakers, fractions, seed)


def _check(counts, num_spks, seconds, sample_rate, seed):
    for split, count in counts.items():
        if split not in SPLITS or count < 1:
            raise UserError(f"count {split}={count}: must be tr, cv or tt, and 1 or more")
    if num_spks < 1:
        raise UserError(f"num_spks {num_spks}: must be 1 or more")
    if not 0 < seconds[0] <= seconds[1]:
        raise UserError(f"seconds {seconds[0]:g} {seconds[1]:g}: must be positive, shortest first")
    if sample_rate < 1000 or sample_rate % 1000:
        raise UserError(f"sample_rate {sample_rate}: must be a multiple of 1000 Hz, as in wav8k")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")


def _count(text):
    """'tr=100' as ('tr', 100)."""
    split, _, count = text.partition("=")
    if split not in SPLITS or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write it as tr=20000, for tr, cv or tt")
    return split, int(count)
