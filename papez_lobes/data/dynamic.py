"""Mixing on the fly: training mixtures drawn anew every epoch from a folder of speakers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from papez_lobes.data.datasets import EpochAware, SeparationDataset, check_segment
from papez_lobes.data.mixtures.plans import (
    MixturePlan,
    draw_mixture,
    duration_shares,
    mixture_rng,
)
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.data.mixtures.rules import MixingRules
from papez_lobes.data.mixtures.speakers import find_speech
from papez_lobes.data.store import build_store, find_files
from papez_lobes.errors import UserError

ATTEMPTS = 10  # at a mixture whose speech turns out to be silent
TRAINING = 2**20  # keeps these draws apart from those of `papez mix`, whose splits count from 0


class DynamicMixtures(EpochAware, Dataset):
    """Mixtures of the recordings in a folder, which are drawn when they are asked for.

    A mixture depends on the seed, the epoch and its index alone: not on the number of workers and
    processes, nor on where a training was resumed. Items are like those of
    `papez_lobes.data.datasets.SeparationDataset`. The mixture is exactly the sum, in float32, of
    the sources and of the noise, if there is any.

    Arguments
    ---------
    speech_folder : str or pathlib.Path
        One subfolder per speaker.
    store_folder : str or pathlib.Path
        Where recordings are kept that are decoded, if they take no more than `memory_gigabytes`;
        see `papez_lobes.data.store.build_store`.
    num_spks, sample_rate, seed : int
        Speakers C and rate in Hz of the mixtures; seed, not negative.
    count : int
        Mixtures per epoch.
    segment_seconds : float
        Length of each mixture; UserError if it is None or too short.
    noise_folder, room_folder : str or pathlib.Path, optional
        Recordings of noise, and impulse responses of rooms (the mean of their channels is used).
    duration_exponent : float
        Speakers are drawn in proportion to their seconds of speech to this power; 0: all alike.
    **rules
        Further fields of `papez_lobes.data.mixtures.rules.MixingRules`.
    """

    def __init__(
        self, speech_folder: str | Path, store_folder: str | Path, num_spks: int, sample_rate: int,
        count: int, segment_seconds: float | None, seed: int = 0,
        noise_folder: str | Path | None = None, room_folder: str | Path | None = None,
        memory_gigabytes: float = 4.0, duration_exponent: float = 0.0, **rules,
    ):
        super().__init__()
        if segment_seconds is None:
            raise UserError("segment_seconds is null: mixing on the fly needs a length; try 4.0")
        check_segment(segment_seconds)
        self.count, self.sample_rate, self.seed = count, sample_rate, seed
        self.rules = MixingRules(num_spks, (segment_seconds, segment_seconds), **rules)
        self.speech = build_store(speech_folder, Path(store_folder, "speech"), sample_rate,
                                  memory_gigabytes, find_speech)
        self.stores = {"speech": self.speech}
        for kind, folder in (("noises", noise_folder), ("rooms", room_folder)):
            if folder is not None:
                store = build_store(folder, Path(store_folder, kind), sample_rate,
                                    memory_gigabytes, find_files)
                self.stores[kind] = store
                self.rules = replace(self.rules, **{kind: tuple(store.utterances)})
        if duration_exponent:
            shares = duration_shares(self.speech, duration_exponent)
            self.rules = replace(self.rules, speaker_shares=shares)
        if len(self.speech) < num_spks:
            raise UserError(f"{self.speech.root}: holds {len(self.speech)} speaker(s), too few for "
                            f"mixtures of {num_spks}; add a folder for each further speaker")

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        return f"mixtures on the fly from {self.speech}"

    def __getitem__(self, index: int) -> dict:
        for attempt in range(ATTEMPTS):
            rng = mixture_rng((self.seed, TRAINING, self.epoch, attempt), index)
            try:
                return self._make(draw_mixture(self.speech, self.rules, rng, index))
            except UserError as error:  # a silent source; another attempt may do
                problem = error
        raise UserError(f"{problem} ({ATTEMPTS} mixtures in a row could not be made)")

    def _make(self, plan: MixturePlan) -> dict:
        """Render the item of a plan."""
        rendered, sources = render(plan, self.sample_rate, self.stores, dtype=np.float32)
        speech = torch.from_numpy(np.ascontiguousarray(sources))
        mixture = speech.sum(dim=-1)
        if plan.noise:
            mixture = mixture + torch.from_numpy(rendered - sources.sum(axis=1))
        return {"id": plan.name, "mix_sig": mixture, "sources": speech}


def training_set(
    manifest: str | Path | None, speech_folder: str | Path | None, num_spks: int, sample_rate: int,
    segment_seconds: float | None, seed: int = 0, **mixing,
) -> SeparationDataset | DynamicMixtures:
    """The training set of an experiment: with a `speech_folder`, `DynamicMixtures` of it.

    `mixing` are further arguments of that. Otherwise it is a `SeparationDataset` of the manifest.
    """
    if speech_folder is None:
        return SeparationDataset(manifest, num_spks, sample_rate, segment_seconds, seed)
    return DynamicMixtures(speech_folder, num_spks=num_spks, sample_rate=sample_rate,
                           segment_seconds=segment_seconds, seed=seed, **mixing)
