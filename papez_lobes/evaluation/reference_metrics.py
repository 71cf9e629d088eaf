"""SDR, PESQ and STOI of one separated mixture, each by its reference package.

These are plain functions of arrays, for worker processes. Estimates are in the sources' order, as
SI-SNR has decided, so that all measures compare the same pairs.
"""

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from papez_lobes.errors import UserError

PACKAGES = {"sdr": "mir_eval", "pesq": "pesq", "stoi": "pystoi"}
PESQ_RATES = {8000: ("nb",), 16000: ("nb", "wb")}  # Hz -> modes of ITU-T P.862
KNOWN_SDR = 20.0  # dB, of the signals in `check_sdr`


def available(
    wanted: Iterable[str] | None = None, sample_rate: int | None = None
) -> tuple[str, ...]:
    """Check the names of measures, by default all whose packages are installed.

    UserError if a measure is unknown, its package is missing, or PESQ does not have the rate (Hz).

    Example
    -------
    >>> available(["sdr"]), "sdr" in available()
    (('sdr',), True)
    """
    if wanted is None:
        return tuple(name for name in PACKAGES if importlib.util.find_spec(PACKAGES[name]))
    for name in wanted:
        if name not in PACKAGES:
            raise UserError(f"{name}: no such measure; there are {', '.join(PACKAGES)}")
        if not importlib.util.find_spec(PACKAGES[name]):
            raise UserError(f"{name} needs the package {PACKAGES[name]}; pip install "
                            "'papez-lobes[evaluate]' (PESQ needs a C compiler), or leave it out")
    if "pesq" in wanted and sample_rate not in (None, *PESQ_RATES):
        raise UserError(f"pesq: is of {' and '.join(map(str, PESQ_RATES))} Hz, the model of "
                        f"{sample_rate}; leave it out")
    return tuple(wanted)


def measure(
    estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray, sample_rate: int,
    names: Sequence[str],
) -> dict[str, list[float]]:
    """Measure one mixture.

    `estimates` and `sources` are [C, T], in the same order, and `mixture` is [T]. `names` are those
    that `available` returns. The result holds C values for each of `sdr` and `sdr_i` (dB;
    improvement over the mixture), `pesq_nb`, `pesq_wb` (MOS-LQO) and `stoi`. They are NaN where a
    measure is not defined, as for silence.

    Example
    -------
    >>> sources = np.random.default_rng(0).normal(size=(2, 8000))
    >>> values = measure(sources + 0.1 * sources[::-1], sources, sources.sum(0), 8000, ["sdr"])
    >>> [round(value) for value in values["sdr"]]
    [20, 20]
    """
    values = {}
    if "sdr" in names:
        unprocessed = np.broadcast_to(mixture, sources.shape)
        values["sdr"] = sdr(sources, estimates)
        values["sdr_i"] = [a - b for a, b in zip(values["sdr"], sdr(sources, unprocessed))]
    if "pesq" in names:
        for mode in PESQ_RATES.get(sample_rate, ()):
            values[f"pesq_{mode}"] = _each(_pesq, sources, estimates, sample_rate, mode)
    if "stoi" in names:
        values["stoi"] = _each(_stoi, sources, estimates, sample_rate)
    return values


def sdr(sources: np.ndarray, estimates: np.ndarray) -> list[float]:
    """SDR of BSS Eval in dB, [C] (Vincent et al., 2006; 512 taps), as mir_eval computes it.

    It is NaN for a source or an estimate that is silent or too short.
    """
    return _each(_sdr, sources, estimates)


def _sdr(source, estimate):
    """SDR of one pair [T].

    The other sources do not matter: what is no filtered source is distortion, whether it is
    interference or an artifact. Given all sources, mir_eval would also tell these two apart, in a
    time that grows with the fourth power of their number: 20 s a mixture for ten.
    """
    if not source.any() or not estimate.any() or not np.isfinite(estimate).all():
        return float("nan")  # which mir_eval does not take
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval announces that another package will do this
        from mir_eval.separation import bss_eval_sources

        try:
            return float(bss_eval_sources(
                source[None], estimate[None], compute_permutation=False)[0][0])
        except (AttributeError, np.linalg.LinAlgError) as error:
            # mir_eval's handler of singular matrices names a module that numpy no longer has
            if isinstance(error, np.linalg.LinAlgError) or isinstance(
                    error.__context__, np.linalg.LinAlgError):
                return float("nan")
            raise


@cache
def check_sdr() -> None:
    """Raise UserError if the installed mir_eval does not compute SDR, or not the right one."""
    sources, error = np.zeros((2, 2048)), np.zeros((2, 2048))
    sources[0, 0] = sources[1, 512] = 1  # impulses: their delays of up to 511 samples differ
    error[0, 1500] = error[1, 1] = 10 ** (-KNOWN_SDR / 20)  # an artifact, and the other source
    try:
        found = sdr(sources, sources + error)
    except Exception as problem:  # of any kind, in a package that does not fit
        found = f"{type(problem).__name__}: {problem}"
    else:
        if np.allclose(found, KNOWN_SDR, atol=0.01):
            return
    raise UserError(f"the installed mir_eval is broken: an SDR of {KNOWN_SDR:g} dB is, by it, "
                    f"{found}; install mir_eval 0.8.2, or leave out the measure sdr")


def _each(function, sources, estimates, *arguments):
    return [function(*pair, *arguments) for pair in zip(sources, estimates)]


def _pesq(source, estimate, sample_rate, mode):
    from pesq import PesqError, pesq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a division by zero for silence
        value = pesq(sample_rate, source, estimate, mode, on_error=PesqError.RETURN_VALUES)
    return float(value) if value > 0 else float("nan")  # errors, such as "no utterance"


def _stoi(source, estimate, sample_rate):
    from pystoi import stoi

    if not source.any():  # pystoi would return 0
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(source, estimate, sample_rate))
        except (RuntimeWarning, ValueError):  # less than 30 frames of speech
            return float("nan")
