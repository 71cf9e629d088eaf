"""Separate recordings with an ONNX file: python -m papez_lobes.runtime MODEL.onnx IN.wav OUT/"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from papez_lobes.errors import one_line_errors
from papez_lobes.runtime.separator import OnnxSeparator

PROGRAM = "python -m papez_lobes.runtime"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Arguments
    ---------
    argv : sequence of str, optional
        Words of the command line; default: those of the process.
    """
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.partition(":")[0])
    parser.add_argument("model", metavar="MODEL.onnx", help="file that `papez export` has written")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording of several speakers")
    parser.add_argument("out", type=Path, metavar="OUT",
                        help="folder where <stem>_s1.wav, <stem>_s2.wav, ... are written")
    parser.add_argument("--max-depth", type=int, metavar="D",
                        help="greatest number of steps that a token may run")
    parser.add_argument("--halting-threshold", type=float, metavar="X",
                        help="in (0, 1]; tokens halt earlier with a lower threshold")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per core")
    arguments = parser.parse_args(argv)
    with one_line_errors(PROGRAM):
        separator = OnnxSeparator(
            arguments.model, max_depth=arguments.max_depth,
            halting_threshold=arguments.halting_threshold, threads=arguments.threads,
        )
        for path in arguments.files:
            separator.separate_file(path, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
