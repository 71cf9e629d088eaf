"""WHAM! and WHAMR!: WSJ0-2mix with noise, and with reverberation.

`wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix_clean,mix_both,mix_single,s1,s2,noise}`. In WHAMR! all but
the noise exist twice, ending in `_anechoic` and `_reverb`.
"""

from pathlib import Path

from papez_lobes.data import folders
from papez_lobes.data.inspection import Mixture
from papez_lobes.data.manifests import prepare_manifests
from papez_lobes.errors import UserError

CORPUS = "a WHAM! or WHAMR! folder"
HINT = "check data_folder, sample_rate, version, mixture_type and reverberant (WHAMR! alone)"


def prepare_wham(
    data_folder: str | Path, save_folder: str | Path, num_spks: int = 2, sample_rate: int = 8000,
    version: str = "min", mixture_type: str = "mix_both", reverberant: bool = False,
    dereverberate: bool = False, check_sums: str | bool = "warn", **options,
) -> dict[str, Path]:
    """Write the manifests `wham_<split>.csv` of WHAM! or WHAMR!.

    Arguments
    ---------
    reverberant : bool
        True: WHAMR!'s reverberant mixtures. False: WHAM!, or WHAMR!'s anechoic mixtures.
    dereverberate : bool
        True: the sources of reverberant mixtures are anechoic, and sums are not checked. False:
        they are as reverberant as the mixture.
    num_spks, mixture_type, sample_rate, version, data_folder, save_folder, **options
        See `papez_lobes.data.corpora.librimix.prepare_librimix`, as for the result and the errors.
    """
    folders.check_version_and_type(version, mixture_type, num_spks)
    if dereverberate and not reverberant:
        raise UserError("dereverberate True: needs reverberant mixtures; set reverberant to True")

    def find(split: str) -> list[Mixture]:
        root = folders.corpus_folder(data_folder, CORPUS)
        folder = folders.split_folder(root, split, sample_rate, version)
        ending = "_reverb" if reverberant else ""
        if not reverberant and (folder / f"{mixture_type}_anechoic").is_dir():
            ending = "_anechoic"  # WHAMR!, which has WHAM!'s mixtures under this name
        parts = folders.check_split(
            folder, f"{mixture_type}{ending}", num_spks, root, CORPUS, HINT,
            ending="_anechoic" if dereverberate else ending,
        )
        return folders.paired_files(folder, parts)

    about = {"data_folder": folders.absolute(data_folder), "version": version,
             "mixture_type": mixture_type, "reverberant": reverberant,
             "dereverberate": dereverberate}
    clean = mixture_type == folders.CLEAN and not dereverberate
    return prepare_manifests(
        "wham", find, save_folder, num_spks, sample_rate, about,
        check_sums=check_sums if clean else "off", **options,
    )
