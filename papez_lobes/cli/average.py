"""Average the weights of bundles that are branches of one training, as a new bundle."""

import argparse
from pathlib import Path

from papez_lobes.cli.options import add_overwrite, add_trust
from papez_lobes.files import refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez average`."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE",
                        help="branches of one training; one that is given twice counts twice")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER",
                        help="folder of the new bundle")
    add_overwrite(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Average the bundles and print the folder of the new one."""
    from papez_lobes.inference.bundle import check_replaceable
    from papez_lobes.inference.soup import average_bundles

    check_replaceable(arguments.out)  # --overwrite replaces bundles alone
    refuse_existing(arguments.overwrite, arguments.out)
    print(average_bundles(arguments.bundles, arguments.out, arguments.trust))
