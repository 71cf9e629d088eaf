"""Compare separators: speed, operations, memory and depth, side by side."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from papez_lobes.cli.options import add_device, add_dtype, add_overwrite, add_trust
from papez_lobes.errors import UserError
from papez_lobes.files import refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez bench`."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME|YAML|BUNDLE|FILE.py:CLASS",
        help="separators, or a module [1, T] -> [1, T, C] of a Python file, which is executed "
        "(default: all separators of the project)")
    add("--seconds", nargs="+", type=float, default=[1, 4, 16],
        help="lengths of audio in seconds (default: 1 4 16)")
    add("--threads", nargs="+", type=int, help="numbers of CPU threads (default: 1, and all)")
    add_device(parser)
    add_dtype(parser, nargs="+", default=["float32"])
    add_trust(parser)
    add("--mean-depth", type=float, default=4.5, metavar="D",
        help="mean number of steps of a token in a Papez that prunes (default: %(default)s)")
    add("--rounds", type=int, default=5,
        help="all separators are measured once a round, in turns (default: %(default)s)")
    add("--speech", nargs="+", default=[], metavar="FILE",
        help="recordings to measure on (default: a synthetic mixture)")
    add("--train", action="store_true", help="also measure training steps")
    add("--train-seconds", type=float, default=4,
        help="length of a training mixture in seconds (default: %(default)s)")
    add("--no-memory", action="store_true", help="do not measure memory")
    add("--baseline", metavar="FILE.py:CLASS", help="a module to compare the others with")
    add("--json", metavar="FILE", help="write the measurements there")
    add("--markdown", metavar="FILE", help="write the tables there too")
    add("--figure", metavar="FILE", help="draw the real-time factors there (PNG)")
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write the files that were asked for."""
    import torch

    from papez_lobes.profiling.comparison import Comparison

    refuse_existing(arguments.overwrite, arguments.json, arguments.markdown, arguments.figure)
    specs = _specs(arguments)
    comparison = Comparison([], tuple(arguments.speech), arguments.device, arguments.rounds,
                            not arguments.no_memory)
    comparison.build(specs)
    if not comparison.models:
        raise UserError("none of the separators can be built")
    interruption = None
    threads_before = torch.get_num_threads()
    try:
        _measure(comparison, arguments)
    except KeyboardInterrupt as interrupt:  # what has been measured is kept
        interruption = interrupt
        comparison.note("what had not been measured when this was interrupted")
    finally:
        torch.set_num_threads(threads_before)
    if not comparison.results:
        raise interruption or UserError("none of the separators can run")
    _report(comparison, arguments)
    if interruption:
        raise interruption


def _report(comparison, arguments):
    """Print the tables, and write the files that were asked for."""
    from papez_lobes.files import write_bytes
    from papez_lobes.profiling.machine import describe_machine
    from papez_lobes.profiling.presentation import comparison_tables, draw_speed

    results = comparison.results
    machine, speech = describe_machine(arguments.device), "a synthetic mixture (from a seed)"
    if arguments.speech:
        speech = "recordings: " + ", ".join(Path(path).name for path in arguments.speech)
    command = shlex.join(["papez", *sys.argv[1:]])
    text = (
        f"    {command}\n\n{machine}. {arguments.rounds} interleaved rounds; medians, in brackets "
        f"minimum and maximum. On {speech}.\n{comparison_tables(results)}"
    )
    if comparison.problems:
        text += "\nLeft out:\n\n" + "".join(f"- {line}\n" for line in comparison.problems)
    print(text)
    if arguments.json:
        rows = [row | {"machine": machine, "speech": speech} for row in results]
        write_bytes(arguments.json, (json.dumps(rows, indent=1) + "\n").encode())
    if arguments.markdown:
        write_bytes(arguments.markdown, text.encode())
    if arguments.figure:
        write_bytes(arguments.figure, draw_speed(results))


def _specs(arguments):
    """The rows; wrong arguments are refused before anything is measured."""
    from papez_lobes.config.separator_files import separator_names
    from papez_lobes.devices import checked_device
    from papez_lobes.fast.precision import DTYPES
    from papez_lobes.profiling.models import ModelSpec, model_specs

    checked_device(arguments.device)
    for dtype in arguments.dtype:
        if dtype not in DTYPES:
            raise UserError(f"--dtype {dtype}: it must be one of {', '.join(DTYPES)}")
    if arguments.rounds < 1 or min(arguments.seconds) <= 0 or arguments.train_seconds <= 0:
        raise UserError("--rounds must be at least 1, and --seconds above 0")
    names = arguments.names or separator_names()
    specs = [spec for name in names
             for spec in model_specs(name, arguments.mean_depth, arguments.trust)]
    if arguments.baseline:
        label = f"{arguments.baseline.rpartition(':')[2]} (baseline)"
        specs.append(ModelSpec(label, "baseline", arguments.baseline))
    return specs


def _measure(comparison, arguments):
    from papez_lobes.inference.engines import usable_processors

    threads = arguments.threads or sorted({1, usable_processors()})
    for dtype in arguments.dtype:
        for seconds in sorted(arguments.seconds):
            comparison.separate(seconds, dtype, threads)
        if arguments.train and dtype != "int8":  # int8 is for inference
            comparison.train(arguments.train_seconds, dtype, threads)
