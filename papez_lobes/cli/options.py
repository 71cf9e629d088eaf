"""Options that several sub-commands share."""

import argparse


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")


def add_dtype(parser: argparse.ArgumentParser, **options: object) -> None:
    """Add `--dtype`; the values are checked by `lower_precision`, which needs PyTorch."""
    parser.add_argument(
        "--dtype",
        **{"default": "float32", **options},
        help="precision: float32 (default), bfloat16 or float16 (by autocast), or int8 "
        "(linear layers, on a CPU)",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    parser.add_argument("--engine", choices=("torch", "onnx"), help="what computes: PyTorch, or "
                        "onnxruntime with the bundle's ONNX file (default: ONNX on a CPU where "
                        "the bundle has such a file and no option needs PyTorch)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument("--trust", action="store_true", help="also load bundles whose "
                        "hyperparams.yaml can run any code (docs/security.md); only for files of "
                        "people whom you trust")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, the first argument of `papez_lobes.files.refuse_existing`."""
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
