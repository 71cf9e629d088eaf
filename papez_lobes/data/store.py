"""A store of recordings: found, decoded and measured once, then shared by all processes.

A table of the recordings with their active speech levels and, if they fit, the samples themselves
(16 bit) lie in flat files that every process maps into its memory. So a machine holds them once,
however many processes and workers read them.
"""

import json
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import read_audio
from papez_lobes.data.lookup import audio_files, report_passed_over
from papez_lobes.data.mixtures.levels import speech_level
from papez_lobes.data.mixtures.speakers import Recording, Utterance, find_speech, read_headers
from papez_lobes.errors import UserError
from papez_lobes.files import fingerprint, writing

INDEX, TABLE, SAMPLES = "index.json", "table.npy", "samples.i16"
FULL_SCALE = 2**15  # of 16-bit samples
THREADS = min(32, (os.cpu_count() or 1) + 4)  # which decode recordings
FORMAT = 3  # of the store's files; a store of another format is made again
# Of a recording, besides its path: frames and rate (Hz), where its samples begin, what one step of
# them is worth, and its active speech level (power), which is NaN until it is measured.
RECORD = [("frames", "<i8"), ("rate", "<i4"), ("begin", "<i8"), ("scale", "<f4"), ("level", "<f8")]


class SpeechStore(Mapping):
    """The utterances of each speaker, and their samples, in a folder that `build_store` made."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        self.root, self.decoded = Path(index["root"]), index["decoded"]
        self.fingerprint = index["fingerprint"]
        self.skipped, self.passed_over = index["skipped"], index["passed_over"]
        self._spans = index["speakers"]  # first row of the table, and the one after the last
        self._table = np.load(self.folder / TABLE, mmap_mode="r+")
        self._samples = np.memmap(self.folder / SAMPLES, "<i2", "r") if self.decoded else None
        self._utterances = {}

    def __reduce__(self) -> tuple:
        """Pickle the folder alone: another process maps the same files."""
        return SpeechStore, (self.folder,)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each path in the table."""
        return {os.fsdecode(path): row for row, path in enumerate(self._table["path"])}

    def __len__(self) -> int:
        return len(self._spans)

    def __str__(self) -> str:
        left_out = f" ({len(self.skipped)} more left out)" if self.skipped else ""
        if self.passed_over:
            left_out += f", {self.passed_over} other file(s) passed over"
        hours = float((self._table["frames"] / self._table["rate"]).sum()) / 3600
        return (f"{self.root}: {len(self)} speakers, {hours:.1f} h of speech in "
                f"{len(self._table)} recordings{left_out}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __getitem__(self, speaker: str) -> list[Utterance]:
        """The speaker's utterances, sorted by path."""
        if speaker not in self._utterances:
            first, after = self._spans[speaker]
            self._utterances[speaker] = [
                Utterance(os.fsdecode(path), frames / rate, rate)
                for path, frames, rate, *_ in self._table[first:after].tolist()
            ]
        return self._utterances[speaker]

    @property
    def utterances(self) -> list[Utterance]:
        """All utterances, sorted by speaker and path."""
        return [utterance for speaker in self for utterance in self[speaker]]

    def read(self, path: str, start: int = 0, frames: int | None = None) -> tuple[np.ndarray, int]:
        """Read a piece of a recording: [T] samples, float32, and their rate in Hz.

        `start` and `frames` are its first sample and number of samples at that rate.
        """
        _, whole, rate, begin, scale, _ = self._table[self._rows[path]].item()
        if self._samples is None:
            return read_audio(self.root / path, start=start, frames=frames), rate
        stop = whole if frames is None else min(start + frames, whole)
        samples = self._samples[begin + start : begin + stop]
        return np.multiply(samples, np.float32(scale), dtype=np.float32), rate

    def level(self, path: str) -> float:
        """Return the active speech level of a whole recording, as a power.

        It is measured once and kept for all processes, see `papez_lobes.data.mixtures.levels`.
        """
        row = self._rows[path]
        level = float(self._table["level"][row])
        if np.isnan(level):
            level = speech_level(*self.read(path))
            self._table["level"][row] = level
        return level


def find_files(folder: str | Path) -> tuple[list[Recording], list[Path]]:
    """List all recordings of a folder, at any depth, as those of one speaker without a name.

    It is for noise and impulse responses, as `papez_lobes.data.mixtures.speakers.find_speech` is
    for speech.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; name a folder of recordings")
    audio, others = audio_files(folder)
    return [("", path) for path in audio], others


def build_store(
    recordings: str | Path, folder: str | Path, sample_rate: int, gigabytes: float = 4.0,
    find: Callable[[Path], tuple[list[Recording], list[Path]]] = find_speech,
) -> SpeechStore:
    """Make a store of a folder of recordings, or open the one that is there.

    It is made again if a file was added, removed or changed since. It appears whole or not at all.
    In distributed training call this on the main process first.

    Samples are decoded at a rate in Hz and kept in `folder` if they take no more than so many
    gigabytes (2 bytes each); otherwise each piece is read from its file when it is needed. `find`
    lists the recordings: `find_files`, or `find_speech` of mixtures/speakers.py. UserError if no
    recording can be read, or nothing can be written.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "speech" / "ann" / "1.wav", np.full(4000, 0.5), 8000)
    >>> store = build_store(folder / "speech", folder / "store", sample_rate=8000)
    >>> store["ann"]
    [Utterance(path='ann/1.wav', seconds=0.5, sample_rate=8000)]
    >>> samples, rate = store.read("ann/1.wav", start=10, frames=2)
    >>> samples.tolist(), rate, store.level("ann/1.wav") > 0
    ([0.5, 0.5], 8000, True)
    """
    recordings, folder = Path(recordings).expanduser().absolute(), Path(folder)
    found, passed_over = find(recordings)
    settings = [FORMAT, str(recordings), sample_rate, gigabytes, len(passed_over),
                [speaker for speaker, _ in found]]
    seen = fingerprint(settings, [path for _, path in found])
    kept = _open_whole(folder, seen)
    if kept is not None:
        return kept
    report_passed_over(recordings, passed_over)
    speakers, skipped = read_headers(found, recordings)
    if not speakers:
        raise UserError(f"{recordings}: holds no recordings that can be read "
                        f"({len(skipped)} unreadable files); name another folder")
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    seconds = sum(u.seconds for part in speakers.values() for u in part)
    decoded = seconds * sample_rate * 2 <= gigabytes * 1e9
    try:
        with writing(folder, "output_folder"):
            aside.mkdir(parents=True)
            spans, skipped = _write(aside, recordings, speakers, skipped,
                                    sample_rate if decoded else None)
            index = {"fingerprint": seen, "root": str(recordings), "decoded": decoded,
                     "skipped": skipped, "passed_over": len(passed_over), "speakers": spans}
            (aside / INDEX).write_text(json.dumps(index), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return SpeechStore(folder)


def _write(folder, root, speakers, skipped, sample_rate):
    """Write the table and, if there is a rate, samples; returns (spans, skipped)."""
    everything = sorted((speaker, utterance.path, utterance)
                        for speaker, part in speakers.items() for utterance in part)
    rows, skipped, spans, begin = [], list(skipped), {}, 0
    with open(folder / SAMPLES, "wb") as samples, closing(
        _in_threads(lambda item: _record(root, *item, sample_rate), everything)
    ) as records:
        progress = tqdm(records, "decoding speech", len(everything), unit="file",
                        disable=None if sample_rate else True)
        for record, (speaker, path, _) in zip(progress, everything):
            if isinstance(record, UserError):
                skipped.append((path, str(record).removeprefix(f"{root / path}: ")))
                continue
            frames, rate, steps, scale, level = record
            rows.append((os.fsencode(path), frames, rate, begin, scale, level))
            if steps is not None:
                samples.write(steps.tobytes())
                begin += frames
            first, _ = spans.get(speaker, (len(rows) - 1, 0))
            spans[speaker] = (first, len(rows))
    if not rows:
        raise UserError(f"{root}: no recording in it can be decoded; the first: {skipped[0]}")
    longest = max(len(path) for path, *_ in rows)
    np.save(folder / TABLE, np.array(rows, [("path", f"S{longest}"), *RECORD]))
    return spans, skipped


def _in_threads(function, items):
    """What a function gives for each item, in their order.

    Threads call it, since decoding and filtering, which take the time, leave the interpreter free.
    Few results wait for the caller, and if it stops, what has not begun is left out.
    """
    pool, waiting = ThreadPoolExecutor(THREADS), deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _record(root, speaker, path, utterance, sample_rate):
    """What is kept of an utterance, or the error if it cannot be decoded.

    Kept are frames, rate, 16-bit steps, the scale of those and the active level. Without a
    `sample_rate` nothing is decoded.
    """
    if not sample_rate:
        frames = round(utterance.seconds * utterance.sample_rate)
        return frames, utterance.sample_rate, None, np.nan, np.nan
    try:
        decoded = read_audio(root / path, sample_rate)
    except UserError as error:
        return error
    # noise and rooms have no speaker, and are not set to a speech level
    level = speech_level(decoded, sample_rate) if speaker else np.nan
    return len(decoded), sample_rate, *_to_steps(decoded), level


def _to_steps(samples):
    """16-bit steps of samples [T], and what one is worth.

    It is that of a 16-bit file if the samples come from one, and otherwise such that the loudest
    sample is full scale.
    """
    scale = 1 / FULL_SCALE
    steps = samples.astype(np.float64) * FULL_SCALE
    if np.abs(steps).max() >= FULL_SCALE or not np.array_equal(steps, np.rint(steps)):
        scale = max(float(np.abs(samples).max()) / (FULL_SCALE - 1), np.finfo(np.float32).tiny)
        steps = samples / scale
    return np.rint(steps).astype("<i2"), scale


def _open_whole(folder, seen):
    """Open a store if it has that fingerprint and its files have their full size; or None."""
    try:
        store = SpeechStore(folder)
        size = 2 * int(store._table["frames"].sum()) if store.decoded else 0
        whole = store.fingerprint == seen and (folder / SAMPLES).stat().st_size == size
        return store if whole else None
    except (OSError, ValueError, KeyError, EOFError):
        return None
