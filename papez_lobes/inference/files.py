"""Separation of audio files with a loaded bundle."""

from dataclasses import dataclass
from pathlib import Path

import torch
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.data.audio import read_audio, write_audio
from papez_lobes.separator import Separator, match_mixture


@dataclass
class Separated:
    """A separated recording.

    Arguments
    ---------
    mixture : torch.Tensor
        [T], at the model's sampling rate.
    estimates : torch.Tensor
        [T, C], scaled so that their sum is as close as possible to the mixture.
    sample_rate : int
        Sampling rate of the model, in Hz.
    trace : papez_lobes.recurrent.Trace or None
        Trace of the recurrence, if the model has one.
    """

    mixture: torch.Tensor
    estimates: torch.Tensor
    sample_rate: int
    trace: object


def separate_file(model: SepformerSeparation, path: str | Path) -> Separated:
    """Separate one file.

    Arguments
    ---------
    model : speechbrain.inference.separation.SepformerSeparation
        The model, from `load_bundle` or SpeechBrain's own `from_hparams`.
    path : str or pathlib.Path
        Audio file with any sampling rate and number of channels. Channels are averaged, and the
        signal is resampled to the model's rate.

    Returns
    -------
    Separated

    Raises
    ------
    UserError
        The file cannot be read as audio.
    """
    rate = model.hparams.sample_rate
    mixture = torch.from_numpy(read_audio(path, rate)).unsqueeze(0).to(model.device)
    with torch.inference_mode():
        estimates, trace = Separator.of(model.mods)(mixture, return_trace=True)
        estimates = match_mixture(estimates, mixture)
    return Separated(mixture[0].cpu(), estimates[0].cpu(), rate, trace)


def write_estimates(separated: Separated, path: str | Path, folder: str | Path) -> list[Path]:
    """Write the estimates of a recording as `<stem>_s1.wav`, `<stem>_s2.wav`, ...

    The files have 16 bit and the model's sampling rate. If an estimate exceeds full scale, all are
    scaled down by the same factor.

    Arguments
    ---------
    separated : Separated
        The separated recording.
    path : str or pathlib.Path
        Path of the recording, which gives the stem.
    folder : str or pathlib.Path
        Folder to write to.

    Returns
    -------
    list of pathlib.Path
        Paths of the files.
    """
    peak = separated.estimates.abs().max().clamp(min=1.0)
    paths = []
    for speaker in range(separated.estimates.shape[1]):
        target = Path(folder) / f"{Path(path).stem}_s{speaker + 1}.wav"
        samples = (separated.estimates[:, speaker] / peak).numpy()
        write_audio(target, samples, separated.sample_rate)
        paths.append(target)
    return paths
