"""Separate audio files with a loaded bundle."""

from dataclasses import dataclass
from pathlib import Path

import torch

from papez_lobes.data.audio import read_audio, write_audio
from papez_lobes.separator import Separator, match_mixture


@dataclass
class Separated:
    """A separated recording.

    Arguments
    ---------
    mixture : torch.Tensor
        [T], at the model's rate.
    estimates : torch.Tensor
        [T, C], scaled so that they sum to the mixture as well as they can.
    sample_rate : int
        Hz, the model's.
    trace : papez_lobes.recurrent.Trace or None
        Of the recurrence, for models that have one.
    """

    mixture: torch.Tensor
    estimates: torch.Tensor
    sample_rate: int
    trace: object


def separate_file(model, path):
    """Separate one file.

    Arguments
    ---------
    model : speechbrain.inference.separation.SepformerSeparation
        As `load_bundle` or SpeechBrain's own `from_hparams` give it.
    path : str or pathlib.Path
        Any rate and number of channels: channels are averaged, and it is resampled to the
        model's rate.

    Returns
    -------
    Separated

    Raises
    ------
    UserError
        If the file cannot be read as audio.
    """
    rate = model.hparams.sample_rate
    mixture = torch.from_numpy(read_audio(path, rate)).unsqueeze(0).to(model.device)
    with torch.inference_mode():
        estimates, trace = Separator.of(model.mods)(mixture, return_trace=True)
        estimates = match_mixture(estimates, mixture)
    return Separated(mixture[0].cpu(), estimates[0].cpu(), rate, trace)


def write_estimates(separated, path, folder):
    """Write `<stem>_s1.wav`, `<stem>_s2.wav`, ... of a recording; returns their paths.

    16 bit at the model's rate. Should an estimate exceed full scale, all are turned down alike.
    """
    peak = separated.estimates.abs().max().clamp(min=1.0)
    paths = []
    for speaker in range(separated.estimates.shape[1]):
        target = Path(folder) / f"{Path(path).stem}_s{speaker + 1}.wav"
        samples = (separated.estimates[:, speaker] / peak).numpy()
        write_audio(target, samples, separated.sample_rate)
        paths.append(target)
    return paths
