"""SpeechBrain data sets of mixtures and their sources, read from a manifest."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from torch.utils.data import get_worker_info

from papez_lobes.data.audio import read_audio
from papez_lobes.data.mixtures.rules import MIN_SECONDS
from papez_lobes.errors import UserError


class EpochAware:
    """Mixin for a data set of mixtures whose items depend on the epoch.

    The epoch is kept in shared memory, so that the workers of a data loader see it change, also
    those that persist from epoch to epoch. Name this class before the data set's own base class,
    and call `super().__init__()`.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._epoch = torch.ones((), dtype=torch.long).share_memory_()

    def __setstate__(self, state: dict) -> None:
        """Restore a pickled data set. Plain pickle copies the epoch out of shared memory."""
        self.__dict__.update(state)
        self._epoch.share_memory_()

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make the items of this epoch (from 1) from now on, in all workers."""
        self._epoch.fill_(epoch)

    @staticmethod
    def collate(items: list[dict]) -> PaddedBatch:
        """Make a padded batch of items, in shared memory if this is a worker of a loader.

        UserError if there is too little. Left to the loader, the worker would fail in a thread of
        its own, and the loader would wait for it for ever.
        """
        batch = PaddedBatch(items)
        if get_worker_info() is None:
            return batch
        try:
            for tensor in (*batch.mix_sig, *batch.sources):
                tensor.share_memory_()
        except RuntimeError as error:
            raise UserError("too little shared memory (/dev/shm) for the workers of the loader; "
                            "start the container with --shm-size=1g, or take --num_workers 0"
                            ) from error
        return batch


class SeparationDataset(EpochAware, DynamicItemDataset):
    """Recorded mixtures of a manifest, with the items `id`, `mix_sig` [T] and `sources` [T, C].

    It can be pickled, so that workers run under every start method of processes. UserError if
    segments are too short, or the manifest holds no mixtures.

    Arguments
    ---------
    manifest : str or pathlib.Path
        CSV with the columns ID, duration, mix_wav, s1_wav, s2_wav, ...; see
        `papez_lobes.data.manifests.prepare_manifests`.
    num_spks : int
        Speakers C.
    sample_rate : int
        Hz, of the files.
    segment_seconds : float, optional
        Length of the random segment that is taken of each mixture; shorter ones are taken whole.
        By default all are taken whole.
    seed : int
        Non-negative. A segment depends on the seed, the epoch and the mixture's ID, and on
        nothing else, such as the number of workers or where a training was resumed.
    """

    def __init__(
        self, manifest: str | Path, num_spks: int, sample_rate: int,
        segment_seconds: float | None = None, seed: int = 0,
    ):
        if segment_seconds is not None:
            check_segment(segment_seconds)
        data = load_data_csv(str(manifest))
        if not data:
            raise UserError(f"{manifest}: holds no mixtures; this split is empty")
        super().__init__(data)
        self.sample_rate, self.segment_seconds, self.seed = sample_rate, segment_seconds, seed
        sources = [f"s{speaker}_wav" for speaker in range(1, num_spks + 1)]
        self.add_dynamic_item(
            self._read, takes=["id", "duration", "mix_wav", *sources],
            provides=["mix_sig", "sources"],
        )
        self.set_output_keys(["id", "mix_sig", "sources"])

    def __str__(self) -> str:
        hours = sum(float(row["duration"]) for row in self.data.values()) / 3600
        return f"{len(self)} recorded mixtures, {hours:.1f} h"

    def _read(self, name: str, duration: float, *paths: str) -> Iterator[torch.Tensor]:
        """Yield the mixture and the sources of an item."""
        start, frames = self._segment(name, round(float(duration) * self.sample_rate))
        signals = [read_audio(path, start=start, frames=frames) for path in paths]
        for path, signal in zip(paths, signals):
            if len(signal) != frames:
                raise UserError(f"{path}: has become shorter since its manifest was made; run "
                                "once without skip_prep")
        yield torch.from_numpy(signals[0])
        yield torch.from_numpy(np.stack(signals[1:], axis=-1))

    def _segment(self, name: str, frames: int) -> tuple[int, int]:
        """Start and length, in samples, of the segment of a mixture of `frames` samples."""
        if self.segment_seconds is None or frames <= self.segment_seconds * self.sample_rate:
            return 0, frames
        wanted = int(self.segment_seconds * self.sample_rate)
        rng = np.random.default_rng((self.seed, self.epoch, zlib.crc32(name.encode())))
        return int(rng.integers(frames - wanted + 1)), wanted


def check_segment(segment_seconds: float) -> None:
    """Raise UserError if the segments that a training asks for are too short."""
    if segment_seconds < MIN_SECONDS:
        raise UserError(f"segment_seconds {segment_seconds:g}: must be at least {MIN_SECONDS} s")
