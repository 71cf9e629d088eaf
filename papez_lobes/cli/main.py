"""The `papez` command.

Each sub-command is a module of this folder with a docstring, whose first line is its help text,
and the functions `add_arguments(parser)` and `run(arguments)`. These modules import PyTorch and
SpeechBrain inside `run` only, so that `papez --help` answers at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from papez_lobes import __version__
from papez_lobes.cli import (
    average,
    bench,
    convert,
    evaluate,
    export,
    list_bundles,
    live,
    mix,
    separate,
    serve,
)
from papez_lobes.errors import UserError, one_line_errors

COMMANDS = {
    "separate": separate,
    "live": live,
    "serve": serve,
    "list": list_bundles,
    "mix": mix,
    "evaluate": evaluate,
    "convert": convert,
    "average": average,
    "export": export,
    "bench": bench,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `papez` command with the words of a command line; default: those of the process.

    Returns the exit status: 0, 2 for a user's mistake, or 130 if interrupted.

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
    _print_any_name()
    words = [*map(_expand_home, sys.argv[1:] if argv is None else argv)]
    try:
        with one_line_errors("papez"):
            _refuse_empty(words)
        arguments = parser.parse_args(words)
        with one_line_errors(f"papez {arguments.command}"):
            try:
                COMMANDS[arguments.command].run(arguments)
            except ModuleNotFoundError as error:
                if not error.name or error.name.startswith("papez_lobes"):
                    raise
                raise UserError(
                    f"needs the package {error.name}; run: pip install 'papez-lobes[torch]'"
                ) from error
    except SystemExit as stop:  # the message has been printed
        return stop.code
    return 0


def _print_any_name():
    """Let standard output take names of files that its encoding has no letters for."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        # a name that is not UTF-8 is printed as the bytes that it has on disk
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _expand_home(word):
    """A word with its leading ~ replaced, also behind `--option=`, where no shell does so."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + os.path.expanduser(value)


def _refuse_empty(words):
    """Refuse an empty word, which as a path would be the current folder, or nothing at all."""
    for before, word in zip(["papez", *words], words):
        option, equals, value = word.partition("=")
        if not word or (word.startswith("--") and equals and not value):
            raise UserError(f"an empty value follows {option if word else before}; give one, or "
                            "leave the option out")


if __name__ == "__main__":
    sys.exit(main())
