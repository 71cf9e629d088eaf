"""Manifests of LibriMix, from the folders and the metadata that its own scripts write.

`Libri<C>Mix/wav{8k,16k}/{min,max}/{train-360,train-100,dev,test}/{mix_*,s1,s2[,s3],noise}`, beside
the splits `metadata/mixture_<split>_<type>.csv`.
"""

import csv
import re
from functools import partial

from papez_lobes.data.folders import (
    check_choice,
    check_parts,
    check_speakers,
    corpus_folder,
    paired_files,
    rate_folder,
    source_names,
)
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import SPLITS, prepare_manifests
from papez_lobes.errors import UserError

MIXTURE_TYPES = ("mix_clean", "mix_both", "mix_single")
HINT = "check data_folder, sample_rate, version, mixture_type and train_split"


def prepare_librimix(
    data_folder, save_folder, num_spks, sample_rate=8000, version="min", mixture_type="mix_clean",
    train_split="train-360", splits=SPLITS, check_audio=True, leave_out_damaged=False,
    skip_prep=False,
):
    """Write SpeechBrain manifests of LibriMix, after looking at every file.

    A split has the mixtures that its metadata names, whose absolute paths, of the machine where
    the corpus was made, count by their file names alone. Without metadata (a copy that came
    without it) it has those of its folders.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Libri2Mix or Libri3Mix.
    save_folder : str or pathlib.Path
        Where `librimix_<split>.csv` are written.
    num_spks : int
        C, speakers per mixture; 1 for mix_single.
    sample_rate : int
        In Hz; says which of `wav8k` and `wav16k` is meant.
    version : str
        "min" or "max".
    mixture_type : str
        "mix_clean": the speakers · "mix_both": with noise · "mix_single": the first with noise.
    train_split : str
        "train-360" or "train-100".
    splits, check_audio, leave_out_damaged, skip_prep
        See `papez_lobes.data.manifests.prepare_manifests`.

    Returns
    -------
    dict[str, pathlib.Path]
        Split (tr, cv, tt) -> manifest.

    Raises
    ------
    UserError
        The folder is missing or no LibriMix, or is of another number of speakers; or see
        `prepare_manifests`.
    """
    check_choice("version", version, ("min", "max"))
    check_choice("mixture_type", mixture_type, MIXTURE_TYPES)
    names = {"tr": train_split, "cv": "dev", "tt": "test"}
    find = partial(_find, data_folder, rate_folder("", sample_rate, version), names, num_spks,
                   mixture_type)
    return prepare_manifests("librimix", find, save_folder, num_spks, sample_rate, splits,
                             check_audio, leave_out_damaged, skip_prep)


def _find(data_folder, below, names, num_spks, mixture_type, split):
    data_folder = corpus_folder(data_folder, f"Libri{num_spks}Mix")
    folder = data_folder / below / names[split]
    check_single(mixture_type, num_spks)
    if mixture_type != "mix_single":
        check_speakers(folder, num_spks, data_folder)
    parts = [mixture_type, *source_names(num_spks)]
    check_parts(folder, parts, data_folder, "a LibriMix folder", HINT)
    metadata = folder.parent / "metadata" / f"mixture_{folder.name}_{mixture_type}.csv"
    if not metadata.exists():
        print(f"{metadata}: not there; {folder.name} is what its folders hold")
        return paired_files(folder, parts)
    return _read_metadata(metadata, folder, parts)


def check_single(mixture_type, num_spks):
    """Refuse mixtures of one speaker and noise for another number of speakers.

    Example
    -------
    >>> check_single("mix_single", 2)
    Traceback (most recent call last):
    papez_lobes.errors.UserError: mixture_type mix_single: is of one speaker and noise, but \
num_spks is 2; set it to 1
    """
    if mixture_type == "mix_single" and num_spks != 1:
        raise UserError(f"mixture_type {mixture_type}: is of one speaker and noise, but num_spks "
                        f"is {num_spks}; set it to 1")


def _read_metadata(path, folder, parts):
    sources = [f"source_{number}_path" for number in range(1, len(parts))]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_mixture(row, folder, parts, ["mixture_path", *sources])
                    for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no metadata of LibriMix ({error!r}); copy it again, or remove "
                        "it to go by the folders") from error


def _mixture(row, folder, parts, columns):
    files = (folder / part / re.split(r"[\\/]", row[column] or "")[-1]
             for part, column in zip(parts, columns))
    return Mixture(row["mixture_ID"], tuple(files), frames=int(float(row["length"])))
