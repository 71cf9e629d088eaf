"""Separate mixtures into one file a speaker."""

import sys
from pathlib import Path

from tqdm import tqdm

from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.files import separate_file, write_estimates


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a mixture")
    parser.add_argument("--bundle", required=True, help="folder of a trained separator")
    parser.add_argument("--out", required=True, help="folder for <stem>_s1.wav, <stem>_s2.wav, ...")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")


def run(arguments):
    """Separate each file; those that cannot be read are named, and the others still done."""
    _check_stems(arguments.files)
    model = load_bundle(arguments.bundle, device=arguments.device)
    failed = 0
    for path in tqdm(arguments.files, desc="separating", unit="file", disable=None):
        try:
            written = write_estimates(separate_file(model, path), path, arguments.out)
        except UserError as error:
            failed += 1
            tqdm.write(f"papez separate: {error}", file=sys.stderr)
        else:
            tqdm.write("\n".join(map(str, written)))
    if failed:
        raise UserError(f"{failed} of {len(arguments.files)} files could not be separated")


def _check_stems(files):
    """Two mixtures of one stem would overwrite each other's estimates."""
    seen = {}
    for path in map(Path, files):
        if path.stem in seen:
            raise UserError(
                f"{seen[path.stem]} and {path} would both be written as {path.stem}_s1.wav, ...; "
                "separate them into different folders"
            )
        seen[path.stem] = path
