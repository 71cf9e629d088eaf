"""Files that sub-commands write: what exists is kept unless `--overwrite` is given."""

import argparse
import os
from pathlib import Path

from papez_lobes.errors import UserError


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")


def refuse_existing(overwrite: bool, *paths: str | Path | None) -> None:
    """Raise UserError for a path that exists, unless it may be replaced; None is no path.

    An empty folder does not count, as nothing in it can be lost.

    Example
    -------
    >>> refuse_existing(False, None, "/")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: /: exists; name another, or replace it by --overwrite
    """
    for path in paths:
        if path is None or overwrite or not os.path.lexists(path):
            continue
        if not Path(path).is_dir() or any(Path(path).iterdir()):
            raise UserError(f"{path}: exists; name another, or replace it by --overwrite")
