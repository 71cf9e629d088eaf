"""Evaluation: separate and score every mixture of a manifest (`papez evaluate` and train.py)."""

import csv
import heapq
import multiprocessing
import os
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
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
from papez_lobes.evaluation.averages import finite_values, mean_of
from papez_lobes.evaluation.depths import count_depths
from papez_lobes.evaluation.leakage import leakage
from papez_lobes.evaluation.reference_metrics import check_sdr, measure
from papez_lobes.scaling import match_mixture
from papez_lobes.separator import Separator
from papez_lobes.training.losses import reorder, score

WORST = 10  # mixtures whose signals are kept for the page
AHEAD = 4  # mixtures per worker that may wait to be measured
CLEAN_DB = 40  # SI-SNR of a mixture from which on it is a single source: 16 bit give more
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
        A row for each mixture, in the manifest's order: `snt_id`, means over the sources that are
        not silent (`si_snr`, `si_snr_i`, `sdr`, `sdr_i`, ...), values of each source
        (`si_snr_s1`, ...), `leakage` (dB, where one speaker speaks alone; see
        `papez_lobes.evaluation.leakage`), `mean_depth`, `seconds` and `rtf` (real-time factor,
        while workers measure). A measure that is not defined is NaN. Marks, missing otherwise:
        `failed` is 1 if an estimate is not finite, `silent` the number of silent sources, `alone`
        1 if the mixture is one source and nothing else.
    worst : list of Example
        Mixtures with the lowest SI-SNRi, worst first; those of one speaker alone last.
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
        """Mean of a measure over the mixtures that define it, see `averages`; NaN without any."""
        return mean_of(self.rows, name)


def read_manifest(
    path: str | Path, num_spks: int, sample_rate: int, limit: int | None = None
) -> list[tuple[str, list[Path]]]:
    """Read the first `limit` mixtures of a manifest: ID, and paths of mixture and sources.

    Raises UserError if the manifest is missing or empty, is for another number of speakers or
    sampling rate (Hz), lacks a value, or names an ID twice.
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
    context: Callable[[], AbstractContextManager] = nullcontext, pool: Executor | None = None,
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
    pool : concurrent.futures.Executor, optional
        Of `jobs` workers, whose `submit` is used. Default: processes of this machine.

    Returns
    -------
    Evaluation

    Raises
    ------
    UserError
        See `read_manifest`; or mir_eval does not compute SDR; or a file cannot be read, has
        another sampling rate, or differs in length from its mixture; or the model cannot separate
        a mixture. All files are read once before the first mixture is separated.
    """
    mixtures = read_manifest(manifest, num_spks, sample_rate, limit)
    if "sdr" in measures:
        check_sdr()
    _check_files(mixtures, sample_rate)
    separator.eval()
    rows, worst, first, gains = [], [], [], []
    depths, pending = Counter(), deque()
    bar = tqdm(total=len(mixtures), desc="evaluating", unit="mixture", disable=None)
    workers = _workers(jobs if measures else 0) if pool is None else nullcontext(pool)
    with bar, workers as pool:
        for number, (name, paths) in enumerate(mixtures):
            with torch.inference_mode(), context():
                example = _separate(separator, name, *_read(paths), sample_rate, device)
            rows.append(example.row)
            if number < examples:
                first.append(example)
            if example.depth is not None:
                depths += count_depths(example.depth, example.sources, sample_rate)
            heapq.heappush(worst, (_badness(example.row), -number, example))
            if len(worst) > WORST:
                heapq.heappop(worst)
            gains += finite_values([example.row], "si_snr_i")
            bar.set_postfix({"SI-SNRi": f"{fmean(gains):.2f} dB"} if gains else {})
            pending.append((example, pool.submit(
                measure, example.estimates.T, example.sources.T, example.mixture, sample_rate,
                measures,
            )))
            while len(pending) > AHEAD * jobs:
                _add_measures(*pending.popleft(), bar)
        for example, future in pending:
            _add_measures(example, future, bar)
    worst = [example for *_, example in sorted(worst, key=lambda item: item[:2], reverse=True)]
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


class _ThisProcess:
    """A pool without processes, which works at once."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@contextmanager
def _workers(jobs):
    """A pool of so many processes; of none, this process does the work."""
    if jobs < 1:
        yield _ThisProcess()
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


def _add_measures(example, future, bar):
    """Wait for the measures of a mixture, and add them to its row."""
    for name, values in future.result().items():
        example.row |= _per_source(name, values, example.sources.any(axis=0))
    bar.update()


def _badness(row):
    """A number that is the higher, the worse a mixture was separated; highest without a score."""
    if row.get("alone"):
        return -np.inf
    return np.inf if np.isnan(row["si_snr_i"]) else -row["si_snr_i"]


def _check_files(mixtures, sample_rate):
    """Raise UserError for the first file that would stop the evaluation later."""
    for name, paths in tqdm(mixtures, "checking files", unit="mixture", leave=False, disable=None):
        mixture = Mixture(name, tuple(paths))
        problems = inspect_mixture(mixture, sample_rate, check_audio=False).problems
        if problems:
            path, reason = problems[0]
            raise UserError(f"{path}: {reason}")
        _read(paths)


def _read(paths):
    """Read a mixture [T] and its sources [T, C] in float32."""
    mixture, *sources = map(read_audio, paths)
    return mixture, np.stack(sources, axis=-1)


def _separate(separator, name, mixture, sources, sample_rate, device):
    """Separate and score one mixture; returns its Example."""
    batch = torch.from_numpy(mixture).unsqueeze(0)
    seconds = len(mixture) / sample_rate
    estimates, trace, taken = _run(separator, name, batch.to(device), seconds)
    # scores need float64, which not every device has
    estimates = estimates.float().cpu()
    scores = score(estimates, torch.from_numpy(sources).unsqueeze(0), batch)
    heard = sources.any(axis=0)  # a silent source has no score
    row = {"snt_id": name}
    for metric in ("si_snr", "si_snr_i"):
        values = getattr(scores, metric)[0].numpy()
        row |= _per_source(metric, np.where(heard, values, np.nan).tolist(), heard)
    estimates = reorder(estimates, scores.permutation).numpy()
    if np.isfinite(estimates).all():
        estimates = match_mixture(estimates, batch.numpy())
        leaked = leakage(estimates[0], sources, mixture, sample_rate)
        row |= {} if np.isnan(leaked) else {"leakage": leaked}
    else:
        row["failed"] = 1
    depth = None if trace is None else trace.depth[0].cpu().numpy()
    if depth is not None:
        row["mean_depth"] = float(depth.mean())
    row |= {"seconds": seconds, "rtf": taken / seconds}
    if not heard.all():
        row["silent"] = int((~heard).sum())
    if row["si_snr"] - row["si_snr_i"] > CLEAN_DB:
        row["alone"] = 1
    return Example(row, mixture, sources, estimates[0], depth)


def _run(separator, name, batch, seconds):
    """Estimates, the trace or None, and the seconds that the separation took."""
    synchronize(batch.device)
    started = time.perf_counter()
    try:
        estimates, trace = separator(batch, return_trace=True)
    except RuntimeError as error:  # as of a SepFormer whose table of positions is too short
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{name} ({seconds:.1f} s): the model cannot separate it ({line}); leave "
                        "it out, or cut it into shorter mixtures") from error
    synchronize(batch.device)
    return estimates, trace, time.perf_counter() - started


def _per_source(name, values, heard):
    """A measure of each source, and its mean over the sources that are heard, NaN if none is."""
    own = [value for value, counts in zip(values, heard) if counts]
    return {name: sum(own) / len(own) if own else float("nan")} | {
        f"{name}_s{number}": value for number, value in enumerate(values, 1)
    }
