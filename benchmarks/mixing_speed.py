#!/usr/bin/env python3
"""Measure how fast one process mixes on the fly.

    python benchmarks/mixing_speed.py SPEAKERS --seconds 4
"""

import argparse
import tempfile
from pathlib import Path

from papez_lobes.data.dynamic import DynamicMixtures
from papez_lobes.errors import one_line_errors
from papez_lobes.profiling.timing import time_interleaved
from papez_lobes.tables import markdown_table

SAMPLE_RATE, NUM_SPKS = 8000, 2  # of papez_small
COUNT = 50  # mixtures timed in a round
SETTINGS = {
    "as recorded": {"speed_change": 0.0},
    "speeds of 95 to 105 %": {"speed_change": 0.05},
    "the same, read from files each time": {"speed_change": 0.05, "memory_gigabytes": 0.0},
}


def mixing_table(speech_folder: str | Path, seconds: float, rounds: int) -> str:
    """Measure mixing; decoding the speech once is not counted.

    Arguments
    ---------
    speech_folder : str or pathlib.Path
        One subfolder per speaker.
    seconds : float
        Of a mixture.
    rounds : int
        Interleaved; medians are reported.

    Returns
    -------
    str
        A Markdown table.

    Raises
    ------
    UserError
        See `papez_lobes.data.dynamic.DynamicMixtures`.
    """
    with tempfile.TemporaryDirectory() as folder:
        functions = {}
        for number, (name, options) in enumerate(SETTINGS.items()):
            dataset = DynamicMixtures(speech_folder, f"{folder}/{number}", NUM_SPKS, SAMPLE_RATE,
                                      COUNT, seconds, **options)
            functions[name] = Epochs(dataset)
        measured = time_interleaved(functions, rounds)
    rows = []
    for name, measurement in measured.items():
        rate = COUNT / measurement.median
        rows.append([name, f"{rate:.0f}", f"{rate * seconds:.0f}"])
    return markdown_table(["mixing on the fly", "mixtures/s a core", "audio s/s a core"], rows)


class Epochs:
    """A function that makes all mixtures of the next epoch."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.epoch = 0

    def __call__(self):
        self.epoch += 1
        self.dataset.set_epoch(self.epoch)
        for index in range(COUNT):
            self.dataset[index]


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speakers", help="folder with one subfolder per speaker")
    parser.add_argument("--seconds", type=float, default=4, help="of a mixture (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    arguments = parser.parse_args(argv)
    with one_line_errors("mixing_speed.py"):
        print(mixing_table(arguments.speakers, arguments.seconds, arguments.rounds), end="")


if __name__ == "__main__":
    main()
