"""LibriMix, by the folders and the metadata that its own scripts write.

`Libri<C>Mix/wav{8k,16k}/{min,max}/{train-360,train-100,dev,test}/{mix_*,s1,s2[,s3],noise}`, beside
the splits `metadata/mixture_<split>_<type>.csv`.
"""

import csv
import re
from pathlib import Path

from papez_lobes.data import folders
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

HINT = "check data_folder, sample_rate, version, mixture_type and train_split"


def prepare_librimix(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    version: str = "min", mixture_type: str = folders.CLEAN, train_split: str = "train-360",
    check_sums: str | bool = "warn", **options,
) -> dict[str, Path]:
    """Write the manifests `librimix_<split>.csv` of LibriMix.

    A split has the mixtures that its metadata names. The paths there are those of the machine where
    the corpus was made, so only their file names are used. Without metadata a split has the
    mixtures of its folders.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Libri2Mix or Libri3Mix.
    num_spks : int
        Speakers C of the mixtures; 1 for mix_single.
    mixture_type : str
        "mix_clean": the speakers · "mix_both": with noise · "mix_single": the first with noise.
        Sums are checked of mix_clean alone.
    train_split : str
        "train-360" or "train-100".
    sample_rate, version, save_folder, **options
        See `papez_lobes.data.corpora.wsj0mix.prepare_wsj0mix`, as for the result and the errors.
    """
    folders.check_version_and_type(version, mixture_type, num_spks)
    names = {"tr": train_split, "cv": "dev", "tt": "test"}

    def find(split: str) -> list[Mixture]:
        root = folders.corpus_folder(data_folder, f"Libri{num_spks}Mix")
        folder = folders.split_folder(root, names[split], sample_rate, version)
        parts = folders.check_split(folder, mixture_type, num_spks, root, "a LibriMix folder", HINT)
        metadata = folder.parent / "metadata" / f"mixture_{folder.name}_{mixture_type}.csv"
        if not metadata.exists():
            print(f"{metadata}: not there; {folder.name} is what its folders hold")
            return folders.paired_files(folder, parts)
        return _read_metadata(metadata, folder, parts)

    about = {"data_folder": folders.absolute(data_folder), "version": version,
             "mixture_type": mixture_type, "train_split": train_split}
    return prepare_manifests(
        "librimix", find, save_folder, num_spks, sample_rate, about,
        check_sums=check_sums if mixture_type == folders.CLEAN else "off", **options,
    )


def _read_metadata(path: Path, folder: Path, parts: list[str]) -> list[Mixture]:
    """Read the mixtures of a metadata file; their files are those of `folder`."""
    columns = ["mixture_path", *(f"source_{n}_path" for n in range(1, len(parts)))]
    mixtures = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names = [re.split(r"[\\/]", row[column] or "")[-1] for column in columns]
                files = tuple(folder / part / name for part, name in zip(parts, names))
                frames = int(float(row["length"]))
                mixtures.append(Mixture(row["mixture_ID"], files, frames))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        reason = "not a text" if isinstance(error, UnicodeDecodeError) else repr(error)
        raise UserError(f"{path}: is no metadata of LibriMix ({reason}); copy it again, or remove "
                        "it to go by the folders") from error
    return mixtures
