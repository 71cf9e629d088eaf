#!/usr/bin/env python3
"""Measure separation of many recordings by one process and by workers of Ray.

    python benchmarks/separation_throughput.py papez-small-8k --count 40 --seconds 10
    python benchmarks/separation_throughput.py papez-small-8k --count 300 --seconds 0.1
    python benchmarks/separation_throughput.py --pending 1600

The last one measures what one round of the pool's loop costs with that many workers.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from papez_lobes.errors import one_line_errors
from papez_lobes.inference.batch import BatchOptions, BatchSeparator
from papez_lobes.inference.interface import load
from papez_lobes.inference.ray_pool import separate_on_ray
from papez_lobes.inference.recordings import find_recordings
from papez_lobes.tables import markdown_table

SAMPLE_RATE = 8000


def throughput_table(bundle: str, count: int, seconds: float, workers: list[int]) -> str:
    """Time the separation of recordings of noise.

    The time begins with the first finished recording, so that starts are left out of the rates.

    Arguments
    ---------
    bundle : str
        See `papez_lobes.load`.
    count : int
        Number of recordings.
    seconds : float
        Duration of each.
    workers : list of int
        Numbers of Ray's workers.

    Returns
    -------
    str
        A Markdown table.
    """
    import torch

    torch.set_num_threads(1)  # as Ray's workers
    separator = load(bundle, device="cpu")
    model = {"bundle": separator.path, "device": "cpu"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        for number in range(count):
            samples = 0.1 * generator.standard_normal(round(seconds * SAMPLE_RATE))
            soundfile.write(Path(folder, f"{number}.wav"), samples, SAMPLE_RATE)
        recordings = find_recordings([folder])
        one = BatchSeparator(BatchOptions(model, f"{folder}/one"), separator)
        runs = {"one process": map(one, recordings)}
        for number in workers:
            options = BatchOptions(model, f"{folder}/ray{number}")
            runs[f"Ray, {number} worker(s)"] = separate_on_ray(
                recordings, options, separator.num_speakers, jobs=number)
        for name, outcomes in runs.items():
            started = time.perf_counter()
            next(outcomes)
            first = time.perf_counter()
            computing = sum(o.report.real_time_factor * o.report.seconds for o in outcomes)
            wall = time.perf_counter() - first
            rows.append([
                name, f"{first - started:.1f}", f"{wall:.1f}",
                f"{(count - 1) * seconds / wall:.1f}", f"{1000 * wall / (count - 1):.1f}",
                f"{1000 * computing / (count - 1):.1f}",
            ])
    return markdown_table(["", "s to the first", "s for the others", "audio s/s", "ms a file",
                           "of them separating, of each worker"], rows)


def milliseconds_a_round(pending: int, rounds: int = 50) -> float:
    """Time `ray.wait` for one result of many that are pending, the cost of a round of the pool."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    sleep = ray.remote(num_cpus=1000)(lambda: None)  # which no machine has: it waits for ever
    promises = [sleep.remote() for _ in range(pending)]
    started = time.perf_counter()
    for number in range(rounds):
        assert ray.wait([*promises, ray.put(number)])[0]
    milliseconds = 1000 * (time.perf_counter() - started) / rounds
    ray.shutdown()
    return milliseconds


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", default="papez-small-8k")
    parser.add_argument("--count", type=int, default=40, help="recordings (default 40)")
    parser.add_argument("--seconds", type=float, default=10, help="of each (default 10)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="(default 1 2)")
    parser.add_argument("--pending", type=int, metavar="N", help="measure a round of the pool")
    arguments = parser.parse_args(argv)
    with one_line_errors("separation_throughput.py"):
        if arguments.pending is not None:
            print(f"{milliseconds_a_round(arguments.pending):.2f} ms a round")
            return
        print(throughput_table(arguments.bundle, arguments.count, arguments.seconds,
                               arguments.workers), end="")


if __name__ == "__main__":
    main()
