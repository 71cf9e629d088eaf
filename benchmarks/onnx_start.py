"""Time and memory of one separation, from the start of its process to its end.

    python benchmarks/onnx_start.py MODEL.onnx IN.wav        # the ONNX runner
    python benchmarks/onnx_start.py papez-small-8k IN.wav    # papez separate
    python benchmarks/onnx_start.py papez-small-8k IN.wav --engine torch

Each run is a new process on one core. CPU time is what the run would take on an idle core, whatever
else the machine does. `--python` names the interpreter of an environment that holds the runner
alone.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 7


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command on one core; returns seconds, CPU seconds and peak memory in MB."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.execve(command[0], command, {**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with status {status}")
    seconds = time.perf_counter() - started
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", metavar="MODEL.onnx|BUNDLE")
    parser.add_argument("recording", metavar="IN.wav")
    parser.add_argument("--python", default=sys.executable, help="default: this one")
    parser.add_argument("--engine", help="of papez separate")
    arguments = parser.parse_args(argv)
    options = [] if arguments.engine is None else ["--engine", arguments.engine]
    rows = []
    for _ in range(1 + RUNS):  # the first run fills the caches of the disk
        with tempfile.TemporaryDirectory() as out:
            if arguments.model.endswith(".onnx"):
                words = ["papez_lobes.runtime", arguments.model, arguments.recording, out]
            else:
                words = ["papez_lobes.cli.main", "separate", arguments.recording, "-o", out,
                         "-n", arguments.model, *options]
            rows.append(measure([arguments.python, "-m", *words]))
    seconds, cpu, memory = (statistics.median(column) for column in zip(*rows[1:]))
    print(f"{arguments.model}: {seconds:.2f} s, {cpu:.2f} s of CPU time, {memory:.0f} MB")


if __name__ == "__main__":
    main()
