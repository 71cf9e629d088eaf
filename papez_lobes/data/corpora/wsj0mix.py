"""WSJ0-mix, and what `papez mix` writes in its layout.

`<C>speakers/wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2[,s3]}/<name>.wav`
"""

from pathlib import Path

from papez_lobes.data import folders
from papez_lobes.data.folders import split_folder
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError


def mixture_files(folder: str | Path, name: str, num_spks: int) -> list[Path]:
    """Return the C + 1 files of a mixture: mix, s1, ..., sC.

    UserError if the name would lead out of their folders, as `../a` does.

    Example
    -------
    >>> [file.as_posix() for file in mixture_files("tt", "a", 2)]
    ['tt/mix/a.wav', 'tt/s1/a.wav', 'tt/s2/a.wav']
    """
    if not name or any(character in name for character in "/\\\0"):
        raise UserError(f"{name!r}: cannot be the name of a mixture's files; rename it")
    return [Path(folder, part, f"{name}.wav") for part in ("mix", *folders.source_names(num_spks))]


def prepare_wsj0mix(
    data_folder: str | Path, save_folder: str | Path, num_spks: int, sample_rate: int = 8000,
    version: str = "min", **options,
) -> dict[str, Path]:
    """Write the manifests `wsj0mix_<split>.csv` of a WSJ0-mix tree.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        The folder of the tree (`.../2speakers`).
    sample_rate, version : int, str
        Select the folder: `wav8k` or `wav16k`, and "min" or "max" in it.
    save_folder, num_spks, **options
        See `papez_lobes.data.manifests.prepare_manifests`, as for the result and the errors.
    """
    def find(split: str) -> list[Mixture]:
        root = folders.corpus_folder(data_folder, f"a WSJ0-mix folder (.../{num_spks}speakers)")
        folder = split_folder(root, split, sample_rate, version)
        nested = root / f"{num_spks}speakers"
        hint = "check data_folder, sample_rate and version"
        if nested.is_dir():
            hint = f"did you mean {nested}?"
        parts = folders.check_split(folder, "mix", num_spks, root, "a WSJ0-mix tree", hint)
        return folders.paired_files(folder, parts)

    about = {"data_folder": folders.absolute(data_folder), "version": version}
    return prepare_manifests("wsj0mix", find, save_folder, num_spks, sample_rate, about, **options)
