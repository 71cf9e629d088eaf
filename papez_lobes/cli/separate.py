"""Separate recordings into one file per speaker."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from papez_lobes.cli.options import add_device, add_dtype
from papez_lobes.errors import UserError

OVERRIDES = ("max_depth", "halting_threshold")  # hyperparameters of the bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez separate`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording of several speakers")
    parser.add_argument("--bundle", metavar="BUNDLE", help="folder of a trained separator, or a "
                        "name that `papez list` shows (default: its first)")
    parser.add_argument("--out", required=True, metavar="FOLDER",
                        help="where <stem>_s1.wav, <stem>_s2.wav, ... are written")
    add_device(parser)
    add_dtype(parser)
    parser.add_argument("--max-depth", type=int, metavar="D", help="greatest number of steps "
                        "that a token may run")
    parser.add_argument("--halting-threshold", type=float, metavar="X",
                        help="in (0, 1]; tokens halt earlier with a lower threshold")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--mean-depth", type=float, metavar="D",
                        help="mean number of steps of a token, set on the first file; more steps "
                        "than in training give worse results")
    budget.add_argument("--rtf", type=float, metavar="X",
                        help="real-time factor to stay below: tokens halt earlier if the first "
                        "file takes longer")


def run(arguments: argparse.Namespace) -> None:
    """Separate each file; name those that cannot be read, and go on with the others."""
    from tqdm import tqdm

    from papez_lobes.inference.bundle import DEFAULT, load_bundle
    from papez_lobes.inference.files import separate_file, write_estimates

    _check_output_names(arguments.files, arguments.out)
    given = {name: getattr(arguments, name) for name in OVERRIDES}
    overrides = {name: value for name, value in given.items() if value is not None}
    bundle = arguments.bundle or DEFAULT
    model = load_bundle(bundle, overrides, arguments.device, arguments.dtype)
    if arguments.mean_depth is not None or arguments.rtf is not None:
        tqdm.write(_set_budget(model, arguments))
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


def _set_budget(model, arguments):
    """Set the halting bias on the first file; returns the line that reports it."""
    import torch

    from papez_lobes.data.audio import read_audio
    from papez_lobes.inference.compute_budget import set_mean_depth, set_real_time_factor
    from papez_lobes.separator import Separator

    separator = Separator.of(model.mods)
    path, rate = arguments.files[0], model.hparams.sample_rate
    mixture = torch.from_numpy(read_audio(path, rate)).unsqueeze(0).to(model.device)
    if arguments.mean_depth is not None:
        setting = set_mean_depth(separator, mixture, arguments.mean_depth)
    else:
        setting = set_real_time_factor(separator, mixture, arguments.rtf, rate)
    spread, factor = setting.spread, setting.real_time_factor
    measured = "" if factor is None else f", real-time factor {factor:.3f}"
    return (
        f"depth set on {path}: mean {spread.mean:.2f} steps (sd {spread.sd:.2f}){measured}, "
        f"halting_bias {setting.bias:.3f}"
    )


def _check_output_names(files: Sequence[str], out: str) -> None:
    """Refuse recordings whose estimates would overwrite each other or another recording."""
    paths = [Path(file) for file in files]
    stems = {path.stem for path in paths}
    first = {}
    for path in paths:
        stem, _, speaker = path.stem.rpartition("_s")
        if speaker.isdigit() and stem in stems and path.parent.resolve() == Path(out).resolve():
            raise UserError(f"{path}: would be overwritten by the estimates of {stem}; "
                            "choose another --out")
        if path.stem in first:
            raise UserError(
                f"{first[path.stem]} and {path} would both be written as {path.stem}_s1.wav, ...; "
                "separate them into different folders"
            )
        first[path.stem] = path
