"""Make mixtures, in WSJ0-mix's folder layout, from folders of speakers or from lists.

`papez mix SPEAKERS OUT` draws mixtures. `papez mix ROOT OUT --list tr=mix_2_spk_tr.txt ...` makes
those of lists: WSJ0-2Mix and WSJ0-3Mix are made from WSJ0 in this way. `papez mix SPEAKERS
--write-lists FOLDER` draws lists. `papez mix SPEAKERS OUT --overlap 0.2 1 --turns 0.3
--single-speaker 0.1` draws conversations.
"""

import argparse

from papez_lobes.errors import UserError

# Options that --list excludes. The parser sets them only if they are given; `draw_plans` has
# their defaults.
PIECES = ("seconds", "overlap", "turns", "single_speaker", "pause_seconds")  # not of lists
DRAWING = ("num_spks", "count", *PIECES, "seed", "split_by", "tsv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez mix`."""
    add = parser.add_argument
    add("root", metavar="SPEAKERS", help="folder with one subfolder per speaker, VCTK's, or that "
        "of a language of Common Voice; with --list, the folder that the lists' paths are below")
    add("out", nargs="?", metavar="OUT", help="folder to make; the mixtures go to <C>speakers "
        "in it")
    add("--list", nargs="+", type=_list, dest="lists", metavar="SPLIT=FILE",
        help="make the mixtures of these lists (lines `path gain path gain ...`), e.g. WSJ0-mix's; "
        "a file may also end in .wv1 or .flac where the list says .wav")
    add("--write-lists", metavar="FOLDER", help="draw mixtures of whole utterances and write "
        "their lists; the mixtures are made only if OUT is given")
    add("--sample-rate", nargs="+", type=int, default=[8000], metavar="HZ",
        help="one or more, e.g. 8000 16000 (default 8000)")
    add("--version", nargs="+", choices=("min", "max"), default=["min"],
        help="cut to the shortest source, or padded to the longest, or both (default min)")
    add("-j", "--jobs", type=int, default=1, metavar="N",
        help="processes; the files do not depend on it (default 1)")
    drawing = parser.add_argument_group("drawing mixtures, without --list",
                                        argument_default=argparse.SUPPRESS)
    add = drawing.add_argument
    add("--num-spks", type=int, metavar="C", help="speakers of a mixture (default 2)")
    add("--count", nargs="+", type=_count, metavar="SPLIT=COUNT", help="mixtures of each split; "
        "a split that is not named is not made (default tr=20000 cv=5000 tt=3000)")
    add("--seconds", nargs=2, type=float, metavar=("MIN", "MAX"),
        help="lengths of mixtures (default 4 8; lists have whole utterances)")
    add("--seed", type=int, help="the same seed gives the same mixtures (default 0)")
    add("--tsv", metavar="TABLE",
        help="table of a Common Voice folder (default train.tsv or validated.tsv)")
    add("--overlap", nargs=2, type=float, metavar=("MIN", "MAX"), help="range of the overlapped "
        "share of the shorter of two utterances, from 0 to 1 (default 1 1: all speakers speak from "
        "the beginning to the end)")
    add("--turns", type=float, metavar="SHARE", help="share of the mixtures, from 0 to 1, in which "
        "speakers alternate without overlap (default 0)")
    add("--single-speaker", type=float, metavar="SHARE", help="share of the mixtures, from 0 to 1, "
        "in which one speaker speaks and the others are silent (default 0)")
    add("--pause-seconds", nargs=2, type=float, metavar=("MIN", "MAX"),
        help="range of the pauses between turns, in seconds (default 0.2 1)")
    add("--split-by", choices=("utterance", "speaker"),
        help="what the splits do not share (default utterance)")


def run(arguments: argparse.Namespace) -> None:
    """Write lists, mixtures or both, and print where they are."""
    from papez_lobes.data.mixtures import trees

    drawing = {name: getattr(arguments, name) for name in DRAWING if name in arguments}
    _check(arguments, drawing)
    trees.check_rates(arguments.sample_rate)
    if arguments.lists:
        plans = trees.read_lists(dict(arguments.lists), arguments.root)
    else:
        if "count" in drawing:
            drawing["counts"] = dict(drawing.pop("count"))
        if arguments.write_lists:
            drawing["seconds"] = None
        plans = trees.draw_plans(arguments.root, **drawing)
    if arguments.write_lists:
        print(*trees.write_lists(plans, arguments.write_lists), sep="\n")
    if arguments.out:
        print(trees.render_plans(plans, arguments.out, arguments.root, arguments.sample_rate,
                                 arguments.version, arguments.jobs))


def _check(arguments, drawing):
    """Refuse combinations of options in which one would be ignored."""
    if not arguments.out and not arguments.write_lists:
        raise UserError("no OUT: name the folder to make (or --write-lists FOLDER)")
    if arguments.lists:
        excluded = list(drawing)
        if arguments.write_lists:
            excluded.append("write_lists")
        if excluded:
            raise UserError(f"{_flags(excluded)}: not with --list, which says all of that; leave "
                            "one out")
        if len(dict(arguments.lists)) < len(arguments.lists):
            raise UserError("--list: names a split twice; put its lists into one file")
    of_pieces = [name for name in PIECES if name in drawing]
    if arguments.write_lists and of_pieces:
        raise UserError(f"{_flags(of_pieces)}: not with --write-lists, as lists hold whole "
                        "utterances")
    if arguments.jobs < 1:
        raise UserError(f"jobs {arguments.jobs}: must be 1 or more")


def _flags(names):
    """Options as they are written on the command line."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _count(text):
    """Read 'tr=100' as ('tr', 100)."""
    split, count = _list(text, "20000", str.isdecimal)
    return split, int(count)


def _list(text, example="FILE", holds=bool):
    """Read 'tr=mix_2_spk_tr.txt' as ('tr', 'mix_2_spk_tr.txt'), if the value holds."""
    from papez_lobes.data.manifests import SPLITS

    split, _, value = text.partition("=")
    if split not in SPLITS or not holds(value):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as tr={example}, for tr, cv or tt")
    return split, value
