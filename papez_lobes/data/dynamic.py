"""Mixing on the fly: training mixtures drawn anew every epoch from a folder of speakers."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from papez_lobes.data.datasets import EpochAware, SeparationDataset, separation_dataset
from papez_lobes.data.mixtures.plans import MixingRules, draw_mixture, mixture_rng
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.speakers import scan_speakers
from papez_lobes.data.store import build_store, scan_files
from papez_lobes.errors import UserError

ATTEMPTS = 10  # at a mixture whose speech turns out to be silent
TRAINING = 2**20  # keeps these draws apart from those of `papez mix`, whose splits count from 0


class StoredRecordings:
    """Recordings of stores; see also `papez_lobes.data.mixtures.rendering.FileRecordings`.

    Arguments
    ---------
    speech : papez_lobes.data.store.SpeechStore
    noises, rooms : papez_lobes.data.store.SpeechStore, optional
    """

    def __init__(self, speech, noises=None, rooms=None):
        self.stores = {"speech": speech, "noises": noises, "rooms": rooms}

    def read(self, kind: str, path: str, start: int, frames: int | None):
        """Read a piece: ([T] samples, float32, and their rate in Hz)."""
        return self.stores[kind].read(path, start, frames)

    def level(self, path: str) -> float:
        """The active speech level of a whole recording, as a power."""
        return self.stores["speech"].level(path)


class DynamicMixtures(EpochAware, Dataset):
    """Mixtures drawn when they are asked for, by (seed, epoch, index) and nothing else.

    So they are the same whatever the number of workers and processes, resumed or not; two
    processes that share an epoch's indices draw different ones; and every epoch is new. Items are
    as those of `papez_lobes.data.datasets.separation_dataset`. The mixture is exactly the sum, in
    float32, of the sources (and of the noise, where there is any).

    Arguments
    ---------
    speech : papez_lobes.data.store.SpeechStore
        Whose voices are mixed.
    rules : papez_lobes.data.mixtures.plans.MixingRules
        How.
    count : int
        Mixtures per epoch.
    sample_rate : int
        In Hz.
    seed : int
        Non-negative.
    noises, rooms : papez_lobes.data.store.SpeechStore, optional
        The stores of the rules' noises and rooms.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder, noise = getfixture("tmp_path"), np.random.default_rng(0).normal(0, 0.1, 16000)
    >>> for name in ("ann", "bob"):
    ...     write_audio(folder / "speech" / name / "1.wav", noise, 8000)
    >>> speech = build_store(folder / "speech", folder / "store", sample_rate=8000)
    >>> mixtures = DynamicMixtures(speech, MixingRules(seconds=(1, 1)), 100, 8000)
    >>> first = mixtures[7]
    >>> mixtures.set_epoch(2)
    >>> first["sources"].shape, bool((mixtures[7]["mix_sig"] == first["mix_sig"]).all())
    (torch.Size([8000, 2]), False)
    """

    def __init__(self, speech, rules, count, sample_rate, seed=0, noises=None, rooms=None):
        if count < 1:
            raise ValueError(f"mixtures per epoch is {count}: it must be at least 1")
        if len(speech) < rules.num_spks:
            raise UserError(f"{speech.root}: holds {len(speech)} speaker(s), too few for mixtures "
                            f"of {rules.num_spks}; add a folder for each further speaker")
        super().__init__()
        self.speech = speech
        self._recordings = StoredRecordings(speech, noises, rooms)
        self.rules, self.count, self.sample_rate, self.seed = rules, count, sample_rate, seed

    def __len__(self):
        return self.count

    def __str__(self) -> str:
        return f"mixtures on the fly from {self.speech}"

    def plan(self, index):
        """The `papez_lobes.data.mixtures.plans.MixturePlan` of an item of the current epoch."""
        return self._plan(index, 0)

    def _plan(self, index, attempt):
        key = (self.seed, TRAINING, self.epoch, attempt)
        return draw_mixture(self.speech, self.rules, mixture_rng(key, index), index)

    def __getitem__(self, index):
        for attempt in range(ATTEMPTS):
            try:
                return self._make(self._plan(index, attempt))
            except UserError as error:  # silence: the next attempt is as good
                problem = error
        raise UserError(f"{problem} ({ATTEMPTS} mixtures in a row could not be made)")

    def _make(self, plan):
        mixture, sources = render(plan, self.sample_rate, self._recordings, dtype=np.float32)
        noise = (mixture - sources.sum(axis=1)) if plan.noise else None
        sources = torch.from_numpy(np.ascontiguousarray(sources))
        mixture = sources.sum(dim=-1)
        if noise is not None:
            mixture = mixture + torch.from_numpy(noise)
        return {"id": plan.name, "mix_sig": mixture, "sources": sources}


def dynamic_mixtures(
    speech_folder, store_folder, num_spks, sample_rate, count, segment_seconds, seed=0,
    max_gain_db=2.5, speed_change=0.0, noise_folder=None, noise_snr_db=(0.0, 15.0),
    room_folder=None, memory_gigabytes=4.0, tilt_db=0.0, equaliser_db=0.0,
):
    """Find and decode the recordings, and mix on the fly: what experiment files name.

    Arguments
    ---------
    speech_folder : str or pathlib.Path
        One subfolder per speaker.
    store_folder : str or pathlib.Path
        Where decoded recordings are kept, see `papez_lobes.data.store.build_store`.
    num_spks : int
        C.
    sample_rate : int
        Hz.
    count : int
        Mixtures per epoch.
    segment_seconds : float
        The length of each mixture.
    seed : int
        Non-negative.
    max_gain_db, speed_change, noise_snr_db, tilt_db, equaliser_db
        See `papez_lobes.data.mixtures.plans.MixingRules`.
    noise_folder, room_folder : str or pathlib.Path, optional
        Recordings of noise, and impulse responses of rooms (their first channels are averaged).
    memory_gigabytes : float
        Decoded recordings of a folder are kept if they take no more.

    Returns
    -------
    DynamicMixtures
    """
    if segment_seconds is None:
        raise UserError("segment_seconds is null: mixing on the fly needs a length; try 4.0")

    def store(folder, name, scan=scan_files):
        if folder is None:
            return None
        return build_store(folder, f"{store_folder}/{name}", sample_rate, memory_gigabytes, scan)

    speech = store(speech_folder, "speech", scan_speakers)
    noises = store(noise_folder, "noises")
    rooms = store(room_folder, "rooms")
    rules = MixingRules(
        num_spks, (segment_seconds, segment_seconds), max_gain_db, speed_change,
        tuple(noises[""]) if noises else (), tuple(noise_snr_db), tuple(rooms[""]) if rooms else (),
        tilt_db, equaliser_db,
    )
    return DynamicMixtures(speech, rules, count, sample_rate, seed, noises, rooms)


def training_set(
    manifest: str | Path | None,
    speech_folder: str | Path | None,
    num_spks: int,
    sample_rate: int,
    segment_seconds: float | None,
    seed: int = 0,
    **mixing,
) -> SeparationDataset | DynamicMixtures:
    """Make the training set of an experiment.

    Arguments
    ---------
    manifest : str or pathlib.Path
        Of recorded mixtures; used where `speech_folder` is None.
    speech_folder : str or pathlib.Path
        One subfolder per speaker: training mixtures are drawn from it on the fly.
    num_spks, sample_rate, segment_seconds, seed
        See `papez_lobes.data.datasets.separation_dataset`.
    **mixing
        Further arguments of `dynamic_mixtures`.
    """
    if speech_folder is None:
        return separation_dataset(manifest, num_spks, sample_rate, segment_seconds, seed)
    return dynamic_mixtures(
        speech_folder, num_spks=num_spks, sample_rate=sample_rate,
        segment_seconds=segment_seconds, seed=seed, **mixing,
    )
