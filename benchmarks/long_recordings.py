#!/usr/bin/env python3
"""Measure the separation of long recordings: does each speaker keep its output?

    python benchmarks/long_recordings.py shared/speech/valid/librispeech --minutes 10
    python benchmarks/long_recordings.py shared/speech/valid/librispeech --minutes 1 --latency 0.5

Each folder in the speech folder holds the utterances of one speaker. For every pair of speakers
and every condition a recording is made and separated in windows. The conditions are those of
LibriCSS, and two more:

- `full`: both speakers talk all the time.
- `0S`, `0L`: turns without overlap, 0.1 to 0.5 s or 2.9 to 3 s of silence between them.
- `OV10` to `OV40`: turns that overlap; 10 to 40 % of the time with speech has both speakers.
- `silences`: conversations of 20 to 60 s as in OV20, and 10 to 60 s of silence between them.

The utterances of a speaker are drawn in random order, and again when all were used: the report
says how often. The speakers differ in level by up to 5 dB, and white noise lies `--noise_db` below
the speech.

The table has, for each condition and averaged over speakers and pairs:

- SI-SNRi of the whole track, and the difference to the same windows in oracle order, in which the
  outputs of each window are ordered by the true sources.
- Time in the wrong output: of the seconds in which a speaker talks, the share in which more of its
  energy (of the projection of an output on the speaker's true signal) lies in another output than
  in the one that is its own over the whole track. A second counts if the speaker's level in it is
  at most 30 dB below its mean level where it talks. Also with oracle order, which shows what the
  separator itself moves inside its windows.
- Real-time factor, in processor time on one thread, against that of 4 s pieces alone; peak memory
  of the process that separates, with all libraries.
"""

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

import papez_lobes
from papez_lobes.cli.options import add_overwrite
from papez_lobes.data.audio import read_audio
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.files import refuse_existing, write_bytes
from papez_lobes.inference.windows import WindowedSeparation
from papez_lobes.tables import format_number, markdown_table

RATE = 8000
CONDITIONS = ("full", "0S", "0L", "OV10", "OV20", "OV30", "OV40", "silences")
PAUSES = {"0S": (0.1, 0.5), "0L": (2.9, 3.0)}  # seconds between turns
TALK, SILENCE = (20.0, 60.0), (10.0, 60.0)  # seconds of the condition `silences`
LEVELS_DB = 5.0  # the largest difference between the speakers
ACTIVE_DB = 30.0  # a second with less is silent
BLOCK = 65536  # samples that are fed at a time


class Utterances:
    """The utterances of a speaker in random order, begun again when all were used.

    Arguments
    ---------
    folder : pathlib.Path
        Audio files of one speaker.
    rng : numpy.random.Generator
        Decides the order.
    """

    def __init__(self, folder: Path, rng: np.random.Generator):
        self.paths = sorted(path for path in folder.iterdir() if path.is_file())
        if not self.paths:
            raise UserError(f"{folder}: holds no audio files")
        self.rng = rng
        self.order = []
        self.rounds = 0

    def draw(self) -> np.ndarray:
        """The next utterance, [T]."""
        if not self.order:
            self.order = list(self.rng.permutation(len(self.paths)))
            self.rounds += 1
        return read_audio(self.paths[self.order.pop()], RATE)


def make_recording(
    folders: tuple[Path, Path], condition: str, minutes: float, seed: int, noise_db: float,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Make a recording of two speakers.

    Arguments
    ---------
    folders : tuple of pathlib.Path
        Utterances of each speaker.
    condition : str
        One of `CONDITIONS`.
    minutes : float
        Duration.
    seed : int
        Seed.
    noise_db : float
        Level of white noise, relative to the speech.

    Returns
    -------
    sources : numpy.ndarray
        [2, T], float32.
    mixture : numpy.ndarray
        [T], float32.
    rounds : int
        How often the utterances of a speaker were used.
    """
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    speakers = [Utterances(folder, rng) for folder in folders]
    size = int(minutes * 60 * RATE)
    sources = np.zeros((2, size), dtype=np.float32)
    if condition == "full":
        for source, speaker in zip(sources, speakers):
            end = 0
            while end < size:
                end += _place(source, end, speaker.draw())
    else:
        _take_turns(sources, speakers, condition, rng)
    difference = rng.uniform(-LEVELS_DB, LEVELS_DB)
    sources *= 10 ** (np.array([[difference], [-difference]], dtype=np.float32) / 40)
    level = np.sqrt(np.square(sources[sources != 0]).mean())
    noise = rng.standard_normal(size, dtype=np.float32) * level * 10 ** (noise_db / 20)
    return sources, sources.sum(axis=0) + noise, max(speaker.rounds for speaker in speakers)


def _take_turns(sources, speakers, condition, rng):
    """Write alternating utterances into the sources."""
    size = sources.shape[1]
    turn = int(rng.integers(2))
    begin, last = 0, np.zeros(0)
    talk_end = rng.uniform(*TALK) * RATE
    ends = [0, 0]  # of the last utterance of each speaker
    while begin < size:
        utterance = speakers[turn].draw()
        if condition in PAUSES:
            begin += int(rng.uniform(*PAUSES[condition]) * RATE)
        elif condition == "silences" and begin > talk_end:
            begin += int(rng.uniform(*SILENCE) * RATE)
            talk_end = begin + rng.uniform(*TALK) * RATE
        else:
            begin -= _overlap(len(last), len(utterance), condition, rng)
        begin = max(begin, ends[turn])
        _place(sources[turn], begin, utterance)
        begin += len(utterance)
        ends[turn] = begin
        turn, last = 1 - turn, utterance


def _overlap(before, after, condition, rng):
    """Samples by which an utterance overlaps the one before it.

    A share r of the time with speech has both speakers if neighbours overlap by r / (1 + r) of
    their mean length.
    """
    ratio = 0.2 if condition == "silences" else int(condition[2:]) / 100
    wanted = ratio / (1 + ratio) * (before + after) / 2 * rng.uniform(0.5, 1.5)
    return int(min(wanted, before, after))


def _place(source, begin, utterance):
    """Write an utterance at a sample, cut at the end; returns its length."""
    piece = utterance[:max(len(source) - begin, 0)]
    source[begin:begin + len(piece)] = piece
    return len(utterance)


class OracleOrder:
    """Orders the outputs of each window by the true sources.

    Arguments
    ---------
    sources : numpy.ndarray
        [C, T].
    """

    def __init__(self, sources: np.ndarray):
        self.sources = sources
        self.orders = [list(order) for order in itertools.permutations(range(len(sources)))]
        self.reset()

    def reset(self) -> None:
        """Begin at the first sample again."""
        self.end = 0  # of the last window

    def in_order(self, estimates: np.ndarray, known: np.ndarray) -> np.ndarray:
        """See `papez_lobes.inference.voices.Voices.in_order`."""
        self.end += estimates.shape[1] - known.shape[1]
        truth = self.sources[:, self.end - estimates.shape[1]:self.end].astype(np.float64)
        truth /= np.sqrt(np.square(truth).sum(axis=1, keepdims=True)) + 1e-9
        estimates64 = estimates / (np.sqrt(np.square(estimates).sum(axis=1, keepdims=True)) + 1e-9)
        fit = truth @ estimates64.T
        scores = [sum(fit[source, output] for source, output in enumerate(order))
                  for order in self.orders]
        return estimates[self.orders[int(np.argmax(scores))]]


def load_separate(bundle: str):
    """`separate` of a bundle on one thread: [B, T] -> [B, T, C] on the mixture's scale."""
    import torch

    torch.set_num_threads(1)
    return papez_lobes.load(bundle, device="cpu").separate_batch


def start_windows(separate, options: argparse.Namespace) -> WindowedSeparation:
    """The windows of a recording, or those of a live stream where a latency is given."""
    if options.latency is None:
        return WindowedSeparation.for_recordings(
            separate, 2, RATE, options.segment, options.overlap
        )
    return WindowedSeparation.for_streams(separate, 2, RATE, options.latency)


def separate_file(mixture: str, estimates: str, options: argparse.Namespace):
    """Separate a file block by block in this process, and measure it.

    Arguments
    ---------
    mixture, estimates : str
        Audio files to read and to write; the latter has one channel per speaker.
    options : argparse.Namespace
        Those of the command line.

    Returns
    -------
    dict
        `rtf`, `short_rtf` (of 4 s pieces) and `peak_mb`.
    """
    separate = load_separate(options.bundle)
    short = soundfile.read(mixture, frames=4 * RATE, dtype="float32")[0][None]
    separate(short)
    started = time.process_time()
    for _ in range(5):
        separate(short)
    short_rtf = (time.process_time() - started) / 20
    windows = start_windows(separate, options)
    with soundfile.SoundFile(mixture) as source, soundfile.SoundFile(
        estimates, "w", RATE, 2, "FLOAT", format="W64"
    ) as target:
        started = time.process_time()
        for block in source.blocks(BLOCK, dtype="float32"):
            target.write(windows.feed(block).T)
        target.write(windows.flush().T)
        seconds = time.process_time() - started
        duration = source.frames / RATE
    return {"rtf": seconds / duration, "short_rtf": short_rtf, "peak_mb": peak_megabytes()}


def peak_megabytes() -> float:
    """Peak resident memory of this process, on Linux.

    `getrusage` would count the parent's memory too, which a new process shares for a moment.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def si_snr(estimate: np.ndarray, source: np.ndarray) -> float:
    """SI-SNR in dB of one signal."""
    estimate, source = (signal - signal.mean(dtype=np.float64) for signal in (estimate, source))
    target = source * (estimate @ source / (source @ source))
    return float(10 * np.log10(target @ target / np.square(estimate - target).sum()))


def score(estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray) -> dict:
    """Score whole tracks.

    Arguments
    ---------
    estimates, sources : numpy.ndarray
        [C, T].
    mixture : numpy.ndarray
        [T].

    Returns
    -------
    dict
        `si_snr_i` (dB, mean of the speakers) and `wrong` (share of the time).
    """
    speakers = range(len(sources))
    values = np.array([[si_snr(estimate, source) for estimate in estimates] for source in sources])
    order = max(itertools.permutations(speakers),
                key=lambda order: sum(values[source, order[source]] for source in speakers))
    unprocessed = np.mean([si_snr(mixture, source) for source in sources])
    wrong = counted = 0
    for source, own in enumerate(order):
        in_wrong = wrong_seconds(estimates, sources[source], own)
        wrong += in_wrong.sum()
        counted += in_wrong.size
    return {
        "si_snr_i": float(np.mean([values[source, order[source]] for source in speakers])
                          - unprocessed),
        "wrong": float(wrong / max(counted, 1)),
    }


def wrong_seconds(estimates: np.ndarray, source: np.ndarray, own: int) -> np.ndarray:
    """For each second in which a speaker talks: True if another output than `own` has more of it.

    Arguments
    ---------
    estimates : numpy.ndarray
        [C, T].
    source : numpy.ndarray
        [T].
    own : int
        The speaker's output.

    Returns
    -------
    numpy.ndarray
        [seconds], bool.
    """
    whole = len(source) // RATE * RATE
    truth = source[:whole].reshape(-1, RATE).astype(np.float64)
    energy = np.square(truth).sum(axis=1)
    talks = energy > energy[energy > 0].mean() * 10 ** (-ACTIVE_DB / 10)
    outputs = estimates[:, :whole].reshape(len(estimates), -1, RATE)
    projections = np.square(np.einsum("cst,st->cs", outputs, truth, optimize=True))
    return (projections.argmax(axis=0) != own)[talks]


def measure(
    folders: tuple[Path, Path], condition: str, options: argparse.Namespace, seed: int,
) -> dict:
    """Make one recording, separate it in a process of its own and in oracle order, and score it."""
    sources, mixture, rounds = make_recording(
        folders, condition, options.minutes, seed, options.noise_db
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder, "mixture.w64")), str(Path(folder, "estimates.w64"))
        soundfile.write(source, mixture, RATE, subtype="FLOAT")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            cost = pool.submit(separate_file, source, target, options).result()
        estimates = soundfile.read(target, dtype="float32")[0].T
    windows = start_windows(load_separate(options.bundle), options)
    windows.order = OracleOrder(sources)
    ordered = np.concatenate([windows.feed(mixture), windows.flush()], axis=1)
    oracle = score(ordered, sources, mixture)
    talking = np.abs(sources) > 0
    return {
        "condition": condition, "speakers": [folder.name for folder in folders],
        "overlap": float(talking.all(axis=0).sum() / talking.any(axis=0).sum()),
        "rounds": rounds, **score(estimates, sources, mixture),
        "oracle_si_snr_i": oracle["si_snr_i"], "oracle_wrong": oracle["wrong"], **cost,
    }


def summarise(rows: list[dict]) -> str:
    """Markdown table with one line for each condition."""
    lines = []
    for condition in CONDITIONS:
        chosen = [row for row in rows if row["condition"] == condition]
        if not chosen:
            continue
        mean = {key: float(np.mean([row[key] for row in chosen]))
                for key in chosen[0] if isinstance(chosen[0][key], float)}
        lines.append([
            condition, format_number(100 * mean["overlap"], 0), format_number(mean["si_snr_i"]),
            format_number(mean["si_snr_i"] - mean["oracle_si_snr_i"]),
            format_number(100 * mean["wrong"], 1),
            format_number(100 * max(row["wrong"] for row in chosen), 1),
            format_number(100 * mean["oracle_wrong"], 1), format_number(mean["rtf"], 4),
            format_number(mean["short_rtf"], 4),
            format_number(max(row["peak_mb"] for row in chosen), 0),
            max(row["rounds"] for row in chosen),
        ])
    return markdown_table(
        ["condition", "overlap %", "SI-SNRi dB", "against oracle dB", "wrong output %",
         "worst pair %", "oracle order %", "RTF", "RTF of 4 s", "peak MB", "uses of an utterance"],
        lines,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("speech", type=Path, help="folder with one folder per speaker")
    parser.add_argument("--bundle", default="papez-base-8k", help="name or folder of a bundle")
    parser.add_argument("--minutes", type=float, default=10.0, help="duration of a recording")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--pairs", type=int, help="at most this many pairs of speakers")
    parser.add_argument("--segment", type=float, default=30.0, help="seconds of a window")
    parser.add_argument("--overlap", type=float, default=3.0, help="seconds")
    parser.add_argument("--latency", type=float, help="separate as a live stream; in seconds")
    parser.add_argument("--noise_db", type=float, default=-50.0, help="noise relative to speech")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures of each recording")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    with one_line_errors("long_recordings.py"):
        refuse_existing(options.overwrite, options.json)
        if not options.speech.is_dir():
            raise UserError(f"{options.speech}: no such folder")
        folders = sorted(path for path in options.speech.iterdir() if path.is_dir())
        pairs = list(itertools.combinations(folders, 2))[:options.pairs]
        rows = []
        for condition in options.conditions:
            for index, pair in enumerate(pairs):
                rows.append(measure(pair, condition, options, options.seed + index))
                print(json.dumps(rows[-1]), flush=True)
        if options.json:
            write_bytes(options.json, json.dumps(rows, indent=1).encode())
        print(summarise(rows))


if __name__ == "__main__":
    main()
