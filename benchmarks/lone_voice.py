#!/usr/bin/env python3
"""Measure how well the levels of the estimates tell that one speaker alone is heard.

    python benchmarks/lone_voice.py SPEECH MIXTURES

SPEECH holds recordings of one speaker each, at any depth; MIXTURES recordings of two. The margin of
a recording is how much louder its loudest estimate is than the next one. The table shows, for
thresholds of the margin, the share of both kinds that is taken for one voice. `papez separate` uses
the threshold `papez_lobes.inference.files.LONE_VOICE_DB`.
"""

import argparse
import random

import numpy as np

import papez_lobes
from papez_lobes.data.audio import read_audio
from papez_lobes.data.lookup import audio_files
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.inference.files import LONE_VOICE_DB
from papez_lobes.tables import format_number, markdown_table

THRESHOLDS_DB = (6, 8, 10, 12, 15, 20)


def margins(separator, folder, count: int, seconds: float) -> np.ndarray:
    """Margins of at most `count` recordings of a folder that last long enough, in dB."""
    files, _ = audio_files(folder)
    random.Random(0).shuffle(files)
    found = []
    for path in files:
        samples = read_audio(path, separator.sample_rate)
        if len(samples) >= seconds * separator.sample_rate and len(found) < count:
            estimates = separator.separate(samples, separator.sample_rate)
            powers = np.sort(np.square(estimates, dtype=np.float64).mean(axis=1)) + 1e-20
            found.append(10 * np.log10(powers[-1] / powers[-2]))
    if not found:
        raise UserError(f"{folder}: no recording lasts {seconds:g} s; lower --seconds")
    return np.array(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("speech", help="folder of recordings of one speaker each")
    parser.add_argument("mixtures", help="folder of recordings of two speakers")
    parser.add_argument("--bundle", default="papez-base-8k", help="name or folder of a bundle")
    parser.add_argument("--count", type=int, default=200, help="recordings of each kind, at most")
    parser.add_argument("--seconds", type=float, default=3.0, help="least duration")
    options = parser.parse_args()
    with one_line_errors("lone_voice"):
        separator = papez_lobes.load(options.bundle, device="cpu")
        one = margins(separator, options.speech, options.count, options.seconds)
        two = margins(separator, options.mixtures, options.count, options.seconds)
    rows = [
        (f"{threshold} dB", *(format_number(100 * (kind >= threshold).mean(), 1) + " %"
                              for kind in (one, two)))
        for threshold in sorted({*THRESHOLDS_DB, int(LONE_VOICE_DB)})
    ]
    head = ("margin", f"one speaker ({len(one)})", f"two ({len(two)})")
    print(markdown_table(head, rows), end="")


if __name__ == "__main__":
    main()
