"""Separate mixtures into one file a speaker."""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

from papez_lobes.data.audio import read_audio
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import DEFAULT, load_bundle
from papez_lobes.inference.compute_budget import set_mean_depth, set_real_time_factor
from papez_lobes.inference.files import separate_file, write_estimates
from papez_lobes.precision import DTYPES

KNOBS = ("max_depth", "halting_threshold")  # of the bundle, and flags of this command


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a mixture")
    parser.add_argument("--bundle", default=DEFAULT, help="folder of a trained separator, or the "
                        "name of one that comes with the package (default %(default)s)")
    parser.add_argument("--out", required=True, help="folder for <stem>_s1.wav, <stem>_s2.wav, ...")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="what it computes in: "
                        "half precision by autocast, int8 for linear maps on a CPU")
    parser.add_argument("--max-depth", type=int, metavar="D", help="steps allowed to each token")
    parser.add_argument(
        "--halting-threshold", type=float, metavar="X", help="in (0, 1]; lower stops earlier"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--mean-depth", type=float, metavar="D", help="steps a token, in the mean of the first "
        "file; deeper than a bundle was trained for is worse"
    )
    budget.add_argument(
        "--rtf", type=float, metavar="X",
        help="halt earlier if the first file, measured, takes more than this real-time factor",
    )


def run(arguments):
    """Separate each file; those that cannot be read are named, and the others still done."""
    _check_stems(arguments.files, arguments.out)
    overrides = {name: value for name in KNOBS if (value := getattr(arguments, name)) is not None}
    model = load_bundle(arguments.bundle, overrides, arguments.device, arguments.dtype)
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
    """Set the halting bias on the first file; returns the line that says what came of it."""
    path, rate = arguments.files[0], model.hparams.sample_rate
    mixture = torch.from_numpy(read_audio(path, rate)).unsqueeze(0).to(model.device)
    if arguments.mean_depth is not None:
        setting = set_mean_depth(model.mods, mixture, arguments.mean_depth)
    else:
        setting = set_real_time_factor(model.mods, mixture, arguments.rtf, rate)
    spread, factor = setting.spread, setting.real_time_factor
    measured = "" if factor is None else f", real-time factor {factor:.3f}"
    return (
        f"depth set on {path}: mean {spread.mean:.2f} steps (sd {spread.sd:.2f}){measured}, "
        f"halting_bias {setting.bias:.3f}"
    )


def _check_stems(files, out):
    """Two mixtures of one stem would overwrite each other's estimates, and an input in the folder
    of the results may have the name of one."""
    seen = {}
    stems = {Path(path).stem for path in files}
    for path in map(Path, files):
        stem, _, speaker = path.stem.rpartition("_s")
        if speaker.isdigit() and stem in stems and path.parent.resolve() == Path(out).resolve():
            raise UserError(f"{path}: would be overwritten by the estimates of {stem}; "
                            "choose another --out")
    for path in map(Path, files):
        if path.stem in seen:
            raise UserError(
                f"{seen[path.stem]} and {path} would both be written as {path.stem}_s1.wav, ...; "
                "separate them into different folders"
            )
        seen[path.stem] = path
