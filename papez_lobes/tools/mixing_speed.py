"""How fast mixtures are made on the fly, to be held against the training step that eats them."""

import tempfile
import time

import numpy as np

from papez_lobes.data.dynamic import dynamic_mixtures

SAMPLE_RATE, NUM_SPKS = 8000, 2  # of papez_small
COUNT = 50  # mixtures timed in a round
SETTINGS = {
    "as recorded": {"speed_change": 0.0},
    "speeds of 95 to 105 %": {"speed_change": 0.05},
    "... read from files each time": {"speed_change": 0.05, "memory_gigabytes": 0.0},
}


def mixing_table(speech_folder, seconds, rounds):
    """Measure one process that mixes on the fly; decoding the speech once is not counted.

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
        See `papez_lobes.data.dynamic.dynamic_mixtures`.
    """
    with tempfile.TemporaryDirectory() as folder:
        datasets = {
            name: dynamic_mixtures(speech_folder, f"{folder}/{number}", NUM_SPKS, SAMPLE_RATE,
                                   COUNT, seconds, **options)
            for number, (name, options) in enumerate(SETTINGS.items())
        }
        times = {name: [] for name in datasets}
        for epoch in range(1, rounds + 1):
            for name, dataset in datasets.items():
                dataset.set_epoch(epoch)
                started = time.perf_counter()
                for index in range(COUNT):
                    dataset[index]
                times[name].append((time.perf_counter() - started) / COUNT)
    lines = ["| mixing on the fly | mixtures/s a core | audio s/s a core |", "| --- | --: | --: |"]
    for name, taken in times.items():
        rate = 1 / np.median(taken)
        lines.append(f"| {name} | {rate:.0f} | {rate * seconds:.0f} |")
    return "\n".join(lines) + "\n"
