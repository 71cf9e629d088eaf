"""Write a bundle as an ONNX file, or an ExecuTorch file, to be run without PyTorch."""

import argparse
from pathlib import Path

from papez_lobes.cli.options import add_overwrite, add_trust
from papez_lobes.errors import UserError
from papez_lobes.files import refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez export`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a trained separator, or a name "
                        "that `papez list` shows")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT.onnx|OUT.pte", help="the file to "
                        "write (default: separator.onnx in the bundle, which `papez separate` then "
                        "uses on a CPU)")
    parser.add_argument("--weights", default="float32", choices=("float32", "float16", "int8"),
                        help="float16: half the size, computed in float32. int8: a quarter of the "
                        "size, matrix products in integers. Default: %(default)s")
    parser.add_argument("--seconds", type=float, metavar="S", help="duration of the mixtures that "
                        "an ExecuTorch file (.pte) takes")
    add_overwrite(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Export the bundle and print the size of the file."""
    from papez_lobes.inference.shipped import ONNX_FILE, bundle_folder

    out = arguments.out or bundle_folder(arguments.bundle) / ONNX_FILE
    for_executorch = out.suffix == ".pte"
    if for_executorch != (arguments.seconds is not None):
        raise UserError(f"{out}: a .pte file needs --seconds, and other files have no fixed length")
    if for_executorch and arguments.weights != "float32":
        raise UserError(f"{out}: a .pte file has weights in float32")
    refuse_existing(arguments.overwrite, out)
    if for_executorch:
        from papez_lobes.export.executorch_file import export_executorch

        size = export_executorch(arguments.bundle, out, arguments.seconds, trust=arguments.trust)
    else:
        from papez_lobes.export.onnx_file import export_bundle

        size = export_bundle(
            arguments.bundle, out, weights=arguments.weights, trust=arguments.trust)
    print(f"{out}: {size / 1e6:.2f} MB, weights in {arguments.weights}")
