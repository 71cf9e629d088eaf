"""Write a bundle as an ONNX file, for onnxruntime without PyTorch."""

import argparse
from pathlib import Path

from papez_lobes.cli.options import add_overwrite, add_trust
from papez_lobes.files import refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez export`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a trained separator, or a name "
                        "that `papez list` shows")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT.onnx", help="the file to write "
                        "(default: separator.onnx in the bundle, which `papez separate` then uses "
                        "on a CPU)")
    parser.add_argument("--weights", default="float32", choices=("float32", "float16", "int8"),
                        help="float16: half the size, computed in float32. int8: a quarter of the "
                        "size, matrix products in integers. Default: %(default)s")
    add_overwrite(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Export the bundle and print the size of the file."""
    from papez_lobes.export.onnx_file import export_bundle
    from papez_lobes.inference.shipped import ONNX_FILE, bundle_folder

    out = arguments.out or bundle_folder(arguments.bundle) / ONNX_FILE
    refuse_existing(arguments.overwrite, out)
    size = export_bundle(
        arguments.bundle, out, weights=arguments.weights, trust=arguments.trust)
    print(f"{out}: {size / 1e6:.2f} MB, weights in {arguments.weights}")
