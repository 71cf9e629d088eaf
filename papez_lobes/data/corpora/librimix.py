"""LibriMix, by the folders and the metadata that its own scripts write.

`Libri<C>Mix/wav{8k,16k}/{min,max}/{train-360,train-100,dev,test}/{mix_*,s1,s2[,s3],noise}`, beside
the splits `metadata/mixture_<split>_<type>.csv`.
"""

import csv
import re
from functools import partial
from pathlib import Path

from papez_lobes.data.folders import (
    CLEAN,
    absolute,
    check_choice,
    check_mixture_type,
    check_parts,
    check_speakers,
    corpus_folder,
    paired_files,
    rate_folder,
    source_names,
)
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

HINT = "check data_folder, sample_rate, version, mixture_type and train_split"


def prepare_librimix(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    version: str = "min", mixture_type: str = CLEAN, train_split: str = "train-360",
    check_sums: str | bool = "warn", **options,
) -> dict[str, Path]:
    """Write SpeechBrain manifests of LibriMix, after inspecting every file.

    A split has the mixtures that its metadata names. Of the paths there, which are those of the
    machine where the corpus was made, only the file names count. Without metadata a split has
    the mixtures of its folders.

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
    check_sums : "warn", "error" or "off"
        See `papez_lobes.data.manifests.prepare_manifests`. Applies to mix_clean alone.
    **options
        splits, check_audio, leave_out_damaged and skip_prep of `prepare_manifests`.

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
    check_mixture_type(mixture_type, num_spks)
    folder_names = {"tr": train_split, "cv": "dev", "tt": "test"}
    find = partial(_find, data_folder, rate_folder("", sample_rate, version), folder_names,
                   num_spks, mixture_type)
    about = {"data_folder": absolute(data_folder), "version": version,
             "mixture_type": mixture_type, "train_split": train_split}
    return prepare_manifests(
        "librimix", find, save_folder, num_spks, sample_rate, about,
        check_sums=check_sums if mixture_type == CLEAN else "off", **options,
    )


def _find(
    data_folder: str | Path, below: Path, folder_names: dict[str, str], num_spks: int,
    mixture_type: str, split: str,
) -> list[Mixture]:
    data_folder = corpus_folder(data_folder, f"Libri{num_spks}Mix")
    folder = data_folder / below / folder_names[split]
    if mixture_type != "mix_single":
        check_speakers(folder, num_spks, data_folder)
    parts = [mixture_type, *source_names(num_spks)]
    check_parts(folder, parts, data_folder, "a LibriMix folder", HINT)
    metadata = folder.parent / "metadata" / f"mixture_{folder.name}_{mixture_type}.csv"
    if not metadata.exists():
        print(f"{metadata}: not there; {folder.name} is what its folders hold")
        return paired_files(folder, parts)
    return _read_metadata(metadata, folder, parts)


def _read_metadata(path: Path, folder: Path, parts: list[str]) -> list[Mixture]:
    sources = [f"source_{number}_path" for number in range(1, len(parts))]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_mixture(row, folder, parts, ["mixture_path", *sources])
                    for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        reason = "not a text" if isinstance(error, UnicodeDecodeError) else repr(error)
        raise UserError(f"{path}: is no metadata of LibriMix ({reason}); copy it again, or remove "
                        "it to go by the folders") from error


def _mixture(row: dict[str, str], folder: Path, parts: list[str], columns: list[str]) -> Mixture:
    files = (folder / part / re.split(r"[\\/]", row[column] or "")[-1]
             for part, column in zip(parts, columns))
    return Mixture(row["mixture_ID"], tuple(files), frames=int(float(row["length"])))
