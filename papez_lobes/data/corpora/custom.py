"""Mixtures of your own: `{tr,cv,tt}/{mix,s1,s2,...}`, with the same file names in each folder."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from papez_lobes.data.folders import (
    absolute,
    check_parts,
    check_speakers,
    corpus_folder,
    paired_files,
    source_names,
)
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

SPLIT_NAMES = {"tr": ("tr", "train"), "cv": ("cv", "valid", "dev"), "tt": ("tt", "test")}
LAYOUT = "a folder of your own with {tr,cv,tt}/{mix,s1,s2,...} (or train, valid, test)"


def prepare_custom(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    **options,
) -> dict[str, Path]:
    """Write SpeechBrain manifests of mixtures in folders, after inspecting every file.

    If a split has no `mix`, its mixtures are the sums of their sources. They are written to
    `save_folder/mixtures` as float samples, and again whenever the sources have changed.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Holds a folder for each split (tr or train; cv, valid or dev; tt or test), with `mix`, `s1`,
        ..., `sC` in it. Any audio format, one channel.
    save_folder : str or pathlib.Path
        Where `custom_<split>.csv` are written.
    num_spks : int
        C, speakers per mixture.
    sample_rate : int
        In Hz, of all files.
    **options
        splits, check_audio, check_sums, leave_out_damaged and skip_prep of
        `papez_lobes.data.manifests.prepare_manifests`.

    Returns
    -------
    dict[str, pathlib.Path]
        Split (tr, cv, tt) -> manifest.

    Raises
    ------
    UserError
        The folder is missing, lacks a split or has two for one, or holds mixtures of another
        number of speakers; or see `prepare_manifests`.
    """
    find = partial(_find, data_folder, save_folder, num_spks)
    about = {"data_folder": absolute(data_folder)}
    return prepare_manifests("custom", find, save_folder, num_spks, sample_rate, about, **options)


def _find(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, split: str
) -> list[Mixture]:
    data_folder = corpus_folder(data_folder, LAYOUT)
    folder = _split_folder(data_folder, split)
    sources = source_names(num_spks)
    check_speakers(folder, num_spks, data_folder)
    check_parts(folder, sources, data_folder, LAYOUT, "check data_folder")
    if (folder / "mix").is_dir():
        return paired_files(folder, ["mix", *sources])
    sums = Path(save_folder, "mixtures", split).absolute()
    return [replace(mixture, files=(sums / f"{mixture.name}.wav", *mixture.files), summed=True)
            for mixture in paired_files(folder, sources)]


def _split_folder(data_folder: Path, split: str) -> Path:
    names = SPLIT_NAMES[split]
    found = [name for name in names if (data_folder / name).is_dir()]
    if not found:
        raise UserError(f"{data_folder}: has no folder {' or '.join(names)}; set data_folder to "
                        f"{LAYOUT}")
    if len(found) > 1:
        raise UserError(f"{data_folder}: has {' and '.join(found)}, which mean the same split; "
                        "keep one of them")
    return data_folder / found[0]
