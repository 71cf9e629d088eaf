"""Small trees in WSJ0-mix's layout, of seeded synthetic voices, for the tests."""

import numpy as np

from papez_lobes.data.audio import write_audio
from papez_lobes.data.wsj0mix import mixture_files, split_folder

SAMPLE_RATE = 8000


def voice(speaker, seconds, rng):
    """A harmonic tone of the speaker's pitch under a slow random envelope: [T], easy to learn."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 110 * 2.3**speaker
    tone = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    knots = rng.uniform(0.1, 1.0, size=max(2, int(seconds * 8)))
    envelope = np.interp(time, np.linspace(0, time[-1], len(knots)), knots)
    return (0.1 * tone * envelope).astype(np.float32)


def write_small_tree(folder, num_spks=2, counts=(8, 3, 3), seconds=(0.4, 0.8), seed=0):
    """Writes `wav8k/min/{tr,cv,tt}` below `folder`, which is returned."""
    rng = np.random.default_rng(seed)
    for split, count in zip(("tr", "cv", "tt"), counts):
        for index in range(count):
            length = rng.uniform(*seconds)
            sources = [voice(speaker, length, rng) for speaker in range(num_spks)]
            files = mixture_files(split_folder(folder, split), f"m{index:02d}", num_spks)
            for path, signal in zip(files, [sum(sources), *sources]):
                write_audio(path, signal, SAMPLE_RATE)
    return folder
