"""The `papez` command.

Each sub-command is a module of this folder with a docstring, whose first line is its help text,
and the functions `add_arguments(parser)` and `run(arguments)`. These modules import PyTorch and
SpeechBrain inside `run` only, so that `papez --help` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence

from papez_lobes import __version__
from papez_lobes.cli import bench, convert, evaluate, list_bundles, live, mix, separate, serve
from papez_lobes.errors import one_line_errors

COMMANDS = {
    "separate": separate,
    "live": live,
    "serve": serve,
    "list": list_bundles,
    "mix": mix,
    "evaluate": evaluate,
    "convert": convert,
    "bench": bench,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `papez` command.

    Arguments
    ---------
    argv : sequence of str, optional
        Words of the command line; default: those of the process.

    Returns
    -------
    int
        The exit status: 0, 2 for a user's mistake, or 130 if interrupted.

    Example
    -------
    >>> main(["separate", "--bundle"])
    2
    """
    parser = argparse.ArgumentParser(prog="papez", description="Speech separation with Papez.")
    parser.add_argument("--version", action="version", version=f"papez {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
    try:
        arguments = parser.parse_args(argv)
        with one_line_errors(f"papez {arguments.command}"):
            COMMANDS[arguments.command].run(arguments)
    except SystemExit as stop:  # the message has been printed
        return stop.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
