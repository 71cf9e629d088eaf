"""Evaluation: separate and score every mixture of a manifest (`papez evaluate` and train.py)."""

import csv
import heapq
import multiprocessing
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from tqdm import tqdm

from papez_lobes.data.audio import audio_info, read_audio, write_audio
from papez_lobes.data.inspection import Mixture, inspect_mixture
from papez_lobes.devices import synchronize
from papez_lobes.errors import UserError
from papez_lobes.evaluation.depths import count_depths
from papez_lobes.evaluation.reference_metrics import measure
from papez_lobes.separator import Separator, match_mixture
from papez_lobes.training.losses import reorder
from papez_lobes.training.si_snr import score

WORST = 10  # mixtures whose signals are kept for the page
AHEAD = 4  # mixtures per worker that may wait to be measured
# More threads of a worker would compete with the model's and those of the other workers.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


@dataclass
class Example:
    """The signals of one mixture.

    Arguments
    ---------
    row : dict
        Its row of the results.
    mixture : numpy.ndarray
        [T].
    sources, estimates : numpy.ndarray
        [T, C]. Estimates are in the sources' order, and scaled so that they sum to the mixture.
    depth : numpy.ndarray or None
        [L], steps of each token; None without a recurrence.
    """

    row: dict
    mixture: np.ndarray
    sources: np.ndarray
    estimates: np.ndarray
    depth: np.ndarray | None


@dataclass
class Evaluation:
    """Results of an evaluation.

    Arguments
    ---------
    rows : list of dict
        A row for each mixture, in the manifest's order: `snt_id`, means over the sources (`si_snr`,
        `si_snr_i`, `sdr`, `sdr_i`, ...), values of each source (`si_snr_s1`, ...), `mean_depth`,
        `seconds` and `rtf` (real-time factor, while workers measure). A measure that is not
        defined is NaN. `failed` is 1 if an estimate is not finite, and missing otherwise.
    worst : list of Example
        Mixtures with the lowest SI-SNRi, worst first.
    first : list of Example
        The first mixtures of the manifest, as many as asked for.
    sample_rate : int
        Hz.
    depths : Counter
        Depths of all tokens, see `papez_lobes.evaluation.depths`; empty without a recurrence.
    """

    rows: list[dict]
    worst: list[Example]
    first: list[Example]
    sample_rate: int
    depths: Counter

    def mean(self, name: str) -> float:
        """Mean of a measure over the mixtures for which it is defined; NaN if there are none."""
        return mean_of(self.rows, name)


def read_manifest(
    path: str | Path, num_spks: int, sample_rate: int, limit: int | None = None
) -> list[tuple[str, list[Path]]]:
    """Read the mixtures of a manifest.

    Arguments
    ---------
    path : str or pathlib.Path
        CSV with ID, mix_wav, s1_wav, ...
    num_spks, sample_rate : int
        Speakers and sampling rate (Hz) of the model.
    limit : int, optional
        Read only the first so many mixtures.

    Returns
    -------
    list of (str, list of pathlib.Path)
        ID, and the paths of the mixture and of sources 1 to C.

    Raises
    ------
    UserError
        The manifest is missing or empty, is for another number of speakers or sampling rate, lacks
        a value, or names an ID twice.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:  # as spreadsheets save it
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no manifest can be read there; name a CSV file with the columns "
                        "ID, duration, mix_wav, s1_wav, ...") from error
    columns = ["mix_wav", *(f"s{number}_wav" for number in range(1, num_spks + 1))]
    found = set(rows[0]) if rows else set()
    if not rows or not {"ID", *columns} <= found or f"s{num_spks + 1}_wav" in found:
        raise UserError(f"{path}: is empty, or no manifest of mixtures of {num_spks} speakers, for "
                        f"which the model is (columns ID, {', '.join(columns)})")
    for number, row in enumerate(rows, 2):
        if not all(row[column] for column in ("ID", *columns)):
            raise UserError(f"{path}: line {number} lacks a value; complete it or leave it out")
    names = [row["ID"] for row in rows]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: names an ID twice; each mixture needs one of its own")
    mixtures = [(row["ID"], [Path(row[column]) for column in columns]) for row in rows[:limit]]
    rate = audio_info(mixtures[0][1][0]).sample_rate
    if rate != sample_rate:
        raise UserError(f"{mixtures[0][1][0]}: is sampled at {rate} Hz, the model at "
                        f"{sample_rate}; use mixtures of that rate")
    return mixtures


def evaluate(
    separator: Separator, manifest: str | Path, num_spks: int, sample_rate: int,
    device: str | torch.device = "cpu", measures: Sequence[str] = ("sdr",), jobs: int = 1,
    limit: int | None = None, examples: int = 0,
    context: Callable[[], AbstractContextManager] = nullcontext,
) -> Evaluation:
    """Separate and score mixtures one at a time, while worker processes compute measures.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        The separator, which is put into evaluation mode.
    manifest : str or pathlib.Path
        CSV with ID, mix_wav, s1_wav, ...
    num_spks, sample_rate : int
        Speakers and sampling rate (Hz) of the model.
    device : str or torch.device
        The separator's device.
    measures : sequence of str
        Measures besides SI-SNR, see `papez_lobes.evaluation.reference_metrics`.
    jobs : int
        Number of worker processes; 0: none. Results do not depend on it.
    limit : int, optional
        Evaluate only the first so many mixtures.
    examples : int
        Number of mixtures, from the beginning, whose signals are kept.
    context : callable
        Makes the context in which mixtures are separated, e.g. an autocast.

    Returns
    -------
    Evaluation

    Raises
    ------
    UserError
        See `read_manifest`; or a file cannot be read, has another sampling rate, or differs in
        length from its mixture. All files are read once before the first mixture is separated.
    """
    mixtures = read_manifest(manifest, num_spks, sample_rate, limit)
    _check_files(mixtures, sample_rate)
    separator.eval()
    rows, pending = {}, {}  # by the mixtures' numbers
    worst, first, gains = [], [], []
    depths = Counter()
    bar = tqdm(total=len(mixtures), desc="evaluating", unit="mixture", disable=None)
    with bar, _workers(jobs) as pool:
        for number, (name, paths) in enumerate(mixtures):
            signals = _read(name, paths, sample_rate)
            with torch.inference_mode(), context():
                example = _separate(separator, name, *signals, sample_rate, device)
            rows[number] = example.row
            if number < examples:
                first.append(example)
            if example.depth is not None:
                depths += count_depths(example.depth, example.sources, sample_rate)
            key = example.row["si_snr_i"]
            # NaN counts as the worst
            heapq.heappush(worst, (np.inf if np.isnan(key) else -key, -number, example))
            if len(worst) > WORST:
                heapq.heappop(worst)
            if np.isfinite(key):
                gains.append(key)
                bar.set_postfix({"SI-SNRi": f"{fmean(gains):.2f} dB"})
            work = (example.estimates.T, example.sources.T, example.mixture, sample_rate, measures)
            if pool is None:
                _add(example.row, measure(*work), bar)
                continue
            pending[pool.submit(measure, *work)] = number
            _collect(pending, rows, bar, AHEAD * jobs)
        _collect(pending, rows, bar, 0)
    worst = [example for *_, example in sorted(worst, key=lambda item: item[:2], reverse=True)]
    rows = [rows[number] for number in sorted(rows)]
    return Evaluation(rows, worst, first, sample_rate, depths)


def write_examples(
    examples: Iterable[Example], folder: str | Path, sample_rate: int
) -> dict[str, dict[str, Path]]:
    """Write signals as `<ID>_{mix,s1,s1hat,...}.wav`; returns ID -> {kind: path}.

    IDs are written as `file_stem` gives them.
    """
    written = {}
    for example in examples:
        signals = {"mix": example.mixture}
        for speaker in range(example.sources.shape[1]):
            signals[f"s{speaker + 1}"] = example.sources[:, speaker]
            signals[f"s{speaker + 1}hat"] = np.nan_to_num(example.estimates[:, speaker])
        name = example.row["snt_id"]
        written[name] = {kind: Path(folder, f"{file_stem(name)}_{kind}.wav") for kind in signals}
        for kind, samples in signals.items():
            write_audio(written[name][kind], samples, sample_rate)
    return written


def file_stem(name: str) -> str:
    """Turn a mixture's ID into the beginning of a file name without folders.

    Example
    -------
    >>> file_stem("../session 1/a.b")
    '.._session 1_a.b'
    """
    return re.sub(r"[/\\\0]", "_", name)


@contextmanager
def _workers(jobs):
    """A pool of worker processes, or None for no jobs."""
    if jobs < 1:
        yield None
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # for the workers, which inherit it
    try:
        # workers ignore Ctrl-C, which is for the parent; forking is unsafe after threads began
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), signal.signal,
                                 (signal.SIGINT, signal.SIG_IGN)) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise UserError("a process that measures was ended from outside, or by PESQ or STOI; try "
                        "fewer jobs, or leave these measures out") from error
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _add(row, measured, bar):
    for name, values in measured.items():
        row |= _per_source(name, values)
    bar.update()


def _collect(pending, rows, bar, most):
    """Collect finished results, and wait until at most `most` are missing."""
    while pending:
        done, _ = wait(pending, 0 if len(pending) <= most else None, FIRST_COMPLETED)
        for future in done:
            _add(rows[pending.pop(future)], future.result(), bar)
        if len(pending) <= most:
            return


def _check_files(mixtures, sample_rate):
    """Raise UserError for the first file that would stop the evaluation later."""
    for name, paths in tqdm(mixtures, "checking files", unit="mixture", leave=False, disable=None):
        mixture = Mixture(name, tuple(paths))
        problems = inspect_mixture(mixture, sample_rate, check_audio=False).problems
        if problems:
            path, reason = problems[0]
            raise UserError(f"{path}: {reason}")
        _read(name, paths, sample_rate)


def _read(name, paths, sample_rate):
    """Read a mixture [T] and its sources [T, C] in float32."""
    mixture, *sources = (read_audio(path, sample_rate) for path in paths)
    for path, source in zip(paths[1:], sources):
        if len(source) != len(mixture):
            raise UserError(f"{path}: has {len(source)} samples, the mixture {name} "
                            f"{len(mixture)}; make or copy them again")
    return mixture, np.stack(sources, axis=-1)


def _separate(separator, name, mixture, sources, sample_rate, device):
    batch = torch.from_numpy(mixture).unsqueeze(0).to(device)
    synchronize(device)
    started = time.perf_counter()
    estimates, trace = separator(batch, return_trace=True)
    synchronize(device)
    taken, seconds = time.perf_counter() - started, len(mixture) / sample_rate
    estimates = estimates.float().cpu()  # scores need float64, which not every device has
    batch = batch.cpu()
    scores = score(estimates, torch.from_numpy(sources).unsqueeze(0), batch)
    row = {"snt_id": name}
    heard = sources.any(axis=0)  # a silent source has no score
    for metric in ("si_snr", "si_snr_i"):
        values = getattr(scores, metric)[0].numpy()
        row |= _per_source(metric, np.where(heard, values, np.nan).tolist())
    depth = None if trace is None else trace.depth[0].cpu().numpy()
    if depth is not None:
        row["mean_depth"] = float(depth.mean())
    row |= {"seconds": seconds, "rtf": taken / seconds}
    estimates = reorder(estimates, scores.permutation)
    if estimates.isfinite().all():
        estimates = match_mixture(estimates, batch)
    else:
        row["failed"] = 1
    return Example(row, mixture, sources, estimates[0].numpy(), depth)


def _per_source(name, values):
    return {name: sum(values) / len(values)} | {
        f"{name}_s{number}": value for number, value in enumerate(values, 1)
    }


def mean_of(rows: list[dict], name: str) -> float:
    """Mean of a measure over the rows in which it and all estimates are finite; NaN if none."""
    values = [row[name] for row in rows
              if np.isfinite(row.get(name, np.nan)) and not row.get("failed")]
    return sum(values) / len(values) if values else float("nan")
