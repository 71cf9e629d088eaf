"""WHAM! and WHAMR!: WSJ0-2mix with noise, and with reverberation.

`wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix_clean,mix_both,mix_single,s1,s2,noise}`; in WHAMR! all but
the noise exist twice, ending in `_anechoic` and `_reverb`.
"""

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

CORPUS = "a WHAM! or WHAMR! folder"
HINT = "check data_folder, sample_rate, version, mixture_type and reverberant (WHAMR! alone)"


def prepare_wham(
    data_folder: str | Path, save_folder: str | Path, num_spks: int = 2, sample_rate: int = 8000,
    version: str = "min", mixture_type: str = "mix_both", reverberant: bool = False,
    dereverberate: bool = False, check_sums: str | bool = "warn", **options,
) -> dict[str, Path]:
    """Write SpeechBrain manifests of WHAM! or WHAMR!, after inspecting every file.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        The folder that holds `wav8k` or `wav16k`.
    save_folder : str or pathlib.Path
        Where `wham_<split>.csv` are written.
    num_spks : int
        C, speakers per mixture: 2, or 1 for mix_single.
    sample_rate : int
        In Hz; says which of `wav8k` and `wav16k` is meant.
    version : str
        "min" or "max".
    mixture_type : str
        "mix_clean": the speakers · "mix_both": with noise · "mix_single": the first with noise.
    reverberant : bool
        True: WHAMR!'s reverberant mixtures. False: WHAM!, or WHAMR!'s anechoic mixtures.
    dereverberate : bool
        The targets of reverberant mixtures are anechoic; False: as reverberant as the mixture.
    check_sums : "warn", "error" or "off"
        See `papez_lobes.data.manifests.prepare_manifests`. Applies to mix_clean alone, and not to
        dereverberation.
    **options
        splits, check_audio, leave_out_damaged and skip_prep of `prepare_manifests`.

    Returns
    -------
    dict[str, pathlib.Path]
        Split (tr, cv, tt) -> manifest.

    Raises
    ------
    UserError
        The folder is missing or neither corpus, or the options do not fit together; or see
        `prepare_manifests`.
    """
    check_choice("version", version, ("min", "max"))
    check_mixture_type(mixture_type, num_spks)
    if dereverberate and not reverberant:
        raise UserError("dereverberate True: is of reverberant mixtures; set reverberant to True")
    find = partial(_find, data_folder, rate_folder("", sample_rate, version), num_spks,
                   mixture_type, reverberant, dereverberate)
    about = {"data_folder": absolute(data_folder), "version": version, "mixture_type": mixture_type,
             "reverberant": reverberant, "dereverberate": dereverberate}
    clean = mixture_type == CLEAN and not dereverberate
    return prepare_manifests(
        "wham", find, save_folder, num_spks, sample_rate, about,
        check_sums=check_sums if clean else "off", **options,
    )


def _find(
    data_folder: str | Path, below: Path, num_spks: int, mixture_type: str, reverberant: bool,
    dereverberate: bool, split: str,
) -> list[Mixture]:
    data_folder = corpus_folder(data_folder, CORPUS)
    folder = data_folder / below / split
    heard = "_reverb" if reverberant else ""
    if not reverberant and (folder / f"{mixture_type}_anechoic").is_dir():
        heard = "_anechoic"  # WHAMR!, which has WHAM!'s mixtures under this name
    wanted = "_anechoic" if dereverberate else heard
    if mixture_type != "mix_single":
        check_speakers(folder, num_spks, data_folder, wanted)
    parts = [f"{mixture_type}{heard}", *source_names(num_spks, wanted)]
    check_parts(folder, parts, data_folder, CORPUS, HINT)
    return paired_files(folder, parts)
