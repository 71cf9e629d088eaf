"""Separators and manifests for the tests of the evaluation."""

import torch

from papez_lobes.data.audio import write_audio
from papez_lobes.separator import Separator
from tests.trees import SAMPLE_RATE


def separator_of(estimates):
    """A separator whose estimates are given ones."""
    return Separator(
        encoder=lambda mixture: mixture.unsqueeze(1),
        masknet=lambda features: torch.ones(estimates.shape[1], 1, 1, 1),
        decoder=lambda features: estimates.T,
    )


def write_case(folder, sources):
    """One mixture of sources [T, C] and its manifest."""
    mixture, speakers = sources.sum(axis=1), range(1, sources.shape[1] + 1)
    kinds = ["mix", *(f"s{speaker}" for speaker in speakers)]
    for kind, samples in zip(kinds, [mixture, *sources.T]):
        write_audio(folder / f"{kind}.wav", samples, SAMPLE_RATE, "FLOAT")
    columns = ["ID", "duration", *(f"{kind}_wav" for kind in kinds)]
    line = ["m", len(mixture) / SAMPLE_RATE, *(folder / f"{kind}.wav" for kind in kinds)]
    text = "\n".join(",".join(map(str, words)) for words in (columns, line))
    (folder / "tt.csv").write_text(f"{text}\n")
    return folder / "tt.csv"
