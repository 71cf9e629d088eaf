"""From a manifest to SpeechBrain datasets of mixtures and their sources."""

import zlib

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset

from papez_lobes.data.audio import read_audio


class SeparationDataset(DynamicItemDataset):
    """SpeechBrain's dataset, whose random segments depend on the epoch that it is told."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.epoch = torch.ones((), dtype=torch.long).share_memory_()  # with workers that persist

    def set_epoch(self, epoch):
        """Draw the segments of that epoch (1-based) from now on, in all workers."""
        self.epoch.fill_(epoch)


def separation_dataset(manifest, num_spks, sample_rate, segment_seconds=None, seed=0):
    """A dataset of `id`, `mix_sig` [T] and `sources` [T, C].

    Arguments
    ---------
    manifest : str or pathlib.Path
        CSV with ID, duration, mix_wav, s1_wav, s2_wav, ...; see
        `papez_lobes.data.corpora.wsj0mix`.
    num_spks : int
        Speakers C.
    sample_rate : int
        Hz, of the files.
    segment_seconds : float, optional
        Train on a random segment of this length; shorter items are taken whole.
    seed : int
        A segment depends on it, on the epoch and on the item's ID: not on workers, processes or
        where a training was resumed.

    Returns
    -------
    SeparationDataset
        For `Brain.fit` and `Brain.evaluate`; it batches items of different lengths.
    """
    dataset = SeparationDataset.from_csv(str(manifest))
    sources = [f"s{speaker}_wav" for speaker in range(1, num_spks + 1)]

    @sb.utils.data_pipeline.takes("id", "duration", "mix_wav", *sources)
    @sb.utils.data_pipeline.provides("mix_sig", "sources")
    def load(name, duration, *paths):
        start, frames = 0, round(float(duration) * sample_rate)
        if segment_seconds is not None and frames > segment_seconds * sample_rate:
            spare = frames - int(segment_seconds * sample_rate)
            rng = np.random.default_rng((seed, int(dataset.epoch), zlib.crc32(name.encode())))
            start = int(rng.integers(spare + 1))
            frames -= spare
        signals = [read_audio(path, start=start, frames=frames) for path in paths]
        yield torch.from_numpy(signals[0])
        yield torch.from_numpy(np.stack(signals[1:], axis=-1))

    dataset.add_dynamic_item(load)
    dataset.set_output_keys(["id", "mix_sig", "sources"])
    return dataset
