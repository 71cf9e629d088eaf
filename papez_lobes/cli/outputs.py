"""Files that sub-commands write: what exists is kept unless `--overwrite` is given."""

import argparse


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, the first argument of `papez_lobes.files.refuse_existing`."""
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
