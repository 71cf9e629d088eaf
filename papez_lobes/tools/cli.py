"""The `papez` command: one sub-command a module of this folder.

A sub-command module has a one-line docstring (its help), `add_arguments(parser)` and
`run(arguments)`. It is imported only when it is called, so that `papez --help` is quick. With
`HANDS_ON = True`, the words after `--` come to it as `arguments.handed_on`.
"""

import argparse
import importlib
import sys

from papez_lobes.errors import one_line_errors

COMMANDS = {
    "separate": "separate mixtures into one file a speaker",
    "mix": "make mixtures, in WSJ0-mix's folder layout, from folders of speakers or from lists",
    "convert": "turn a checkpoint of the authors' code into a bundle",
    "evaluate": "score a separator on a test set, with a page to hear and see the worst",
    "bench": "compare separators: speed, operations, memory and depth, side by side",
    "ablate": "train the paper's ablations, and put them into one table and figure",
    "demo": "train on real voices for a few minutes, evaluate, separate, and show it",
}


def main(argv=None):
    """Run `papez`; returns the exit status (2 for a mistake of the user's).

    Example
    -------
    >>> main(["separate", "--bundle"])
    2
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="papez", description="Speech separation with Papez.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            module = importlib.import_module(f"papez_lobes.tools.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
            if getattr(module, "HANDS_ON", False) and "--" in argv:
                # what comes after is another program's, and argparse has no say in it
                dashes = argv.index("--")
                sub.set_defaults(handed_on=argv[dashes + 1 :])
                argv = argv[:dashes]
    try:
        arguments = parser.parse_args(argv)
        with one_line_errors(f"papez {chosen}"):
            arguments.run(arguments)
    except SystemExit as stop:  # the line has been printed
        return stop.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
