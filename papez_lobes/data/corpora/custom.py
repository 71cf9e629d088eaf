"""Mixtures of your own: `{tr,cv,tt}/{mix,s1,s2,...}`, with the same file names in each folder."""

from dataclasses import replace
from pathlib import Path

from papez_lobes.data import folders
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

SPLIT_NAMES = {"tr": ("tr", "train"), "cv": ("cv", "valid", "dev"), "tt": ("tt", "test")}
LAYOUT = "a folder of your own with {tr,cv,tt}/{mix,s1,s2,...} (or train, valid, test)"


def prepare_custom(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    **options,
) -> dict[str, Path]:
    """Write the manifests `custom_<split>.csv` of mixtures in folders.

    If a split has no `mix`, its mixtures are the sums of their sources. They are written to
    `save_folder/mixtures` as float samples, and again whenever the sources have changed.

    `data_folder` holds a folder for each split (tr or train; cv, valid or dev; tt or test), with
    `mix`, `s1`, ..., `sC` in it. Any audio format, one channel. For the rest see
    `papez_lobes.data.manifests.prepare_manifests`, also for the result and the errors.
    """
    def find(split: str) -> list[Mixture]:
        root = folders.corpus_folder(data_folder, LAYOUT)
        folder = _split_folder(root, split)
        sources = folders.check_split(folder, None, num_spks, root, LAYOUT, "check data_folder")
        if (folder / "mix").is_dir():
            return folders.paired_files(folder, ["mix", *sources])
        sums = Path(save_folder, "mixtures", split).absolute()
        return [replace(mixture, files=(sums / f"{mixture.name}.wav", *mixture.files), summed=True)
                for mixture in folders.paired_files(folder, sources)]

    about = {"data_folder": folders.absolute(data_folder)}
    return prepare_manifests("custom", find, save_folder, num_spks, sample_rate, about, **options)


def _split_folder(data_folder: Path, split: str) -> Path:
    """Return the folder of a split, under the one name that it has."""
    names = SPLIT_NAMES[split]
    found = [name for name in names if (data_folder / name).is_dir()]
    if not found:
        raise UserError(f"{data_folder}: has no folder {' or '.join(names)}; set data_folder to "
                        f"{LAYOUT}")
    if len(found) > 1:
        raise UserError(f"{data_folder}: has {' and '.join(found)}, which mean the same split; "
                        "keep one of them")
    return data_folder / found[0]
