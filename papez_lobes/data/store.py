"""A store of recordings: found, decoded and measured once, then shared by all processes.

Names, durations, active speech levels and, where they fit, the samples themselves (16 bit) lie in
flat files that every process maps into its memory. A machine holds them once, however many
processes and workers read them.
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import audio_info, read_audio
from papez_lobes.data.corpora.commonvoice import TABLE_SUFFIX
from papez_lobes.data.lookup import audio_files, is_audio, report_passed_over
from papez_lobes.data.mixtures.levels import speech_level
from papez_lobes.data.mixtures.speakers import Utterance, scan_speakers
from papez_lobes.errors import UserError
from papez_lobes.files import fingerprint

INDEX, NAMES, TABLE, SAMPLES = "index.json", "names.txt", "table.npy", "samples.i16"
LEVELS = "levels.npy"  # active speech level (power) of each recording; NaN where not yet measured
END_OF_NAME = "\0"  # the one character that no file name holds
FULL_SCALE = 2**15  # of 16-bit samples
FORMAT = 2  # of the store's files; a store of another format is made again
# Of a recording: frames and rate (Hz), where its samples begin, and what one step of them is worth.
RECORD = np.dtype([("frames", "<i8"), ("rate", "<i4"), ("begin", "<i8"), ("scale", "<f4")])


class SpeechStore(Mapping):
    """Speaker -> utterances, and the samples of each; opened from a folder that `build_store` made.

    Arguments
    ---------
    folder : str or pathlib.Path
        The store.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "speech" / "ann" / "1.wav", np.full(4000, 0.5), 8000)
    >>> store = build_store(folder / "speech", folder / "store", sample_rate=8000)
    >>> utterance, = store["ann"]
    >>> utterance
    Utterance(path='ann/1.wav', seconds=0.5, sample_rate=8000)
    >>> samples, rate = store.read(utterance.path, start=10, frames=2)
    >>> samples.tolist(), rate
    ([0.5, 0.5], 8000)
    >>> store.level(utterance.path) > 0
    True
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        self.root, self.decoded = Path(index["root"]), index["decoded"]
        self.skipped = [tuple(item) for item in index["skipped"]]
        self._spans = {name: tuple(span) for name, span in index["speakers"].items()}
        self._open()

    def _open(self):
        self._table = np.load(self.folder / TABLE)
        self._levels = np.load(self.folder / LEVELS, mmap_mode="r+")
        self._samples = np.memmap(self.folder / SAMPLES, "<i2", "r") if self.decoded else None
        self._utterances = {}

    @cached_property
    def _names(self):
        return (self.folder / NAMES).read_text(encoding="utf-8").split(END_OF_NAME)[:-1]

    @cached_property
    def _numbers(self):
        return {name: number for number, name in enumerate(self._names)}

    def __getstate__(self):
        """Only the folder and its index: another process maps the same files anew."""
        return {key: value for key, value in self.__dict__.items()
                if key in ("folder", "root", "decoded", "skipped", "_spans")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def __len__(self):
        return len(self._spans)

    def __str__(self):
        left_out = f" ({len(self.skipped)} more left out)" if self.skipped else ""
        return (f"{self.root}: {len(self)} speakers, {self.seconds / 3600:.1f} h of speech in "
                f"{len(self._table)} recordings{left_out}")

    def __iter__(self):
        return iter(self._spans)

    def __getitem__(self, speaker):
        """The speaker's utterances, sorted by path."""
        if speaker not in self._utterances:
            first, after = self._spans[speaker]
            self._utterances[speaker] = [
                Utterance(self._names[number], float(frames / rate), int(rate))
                for number, (frames, rate, *_) in enumerate(self._table[first:after], first)
            ]
        return self._utterances[speaker]

    @property
    def utterances(self):
        """All utterances, sorted by speaker and path."""
        return [utterance for speaker in self for utterance in self[speaker]]

    @property
    def seconds(self):
        """Of all recordings."""
        return float((self._table["frames"] / self._table["rate"]).sum())

    def read(self, path, start=0, frames=None):
        """Read a piece of a recording.

        Arguments
        ---------
        path : str
            As its utterance has it.
        start, frames : int, int or None
            First sample and number of samples, at the rate that its utterance has.

        Returns
        -------
        numpy.ndarray
            [T], float32.
        int
            Their rate in Hz.
        """
        whole, rate, begin, scale = self._table[self._numbers[path]].item()
        if self._samples is None:
            return read_audio(self.root / path, start=start, frames=frames), rate
        stop = whole if frames is None else min(start + frames, whole)
        samples = self._samples[begin + start : begin + stop]
        return np.multiply(samples, np.float32(scale), dtype=np.float32), rate

    def level(self, path):
        """The active speech level of a whole recording, as a power: see
        `papez_lobes.data.mixtures.levels`. It is measured once, and kept for all processes."""
        number = self._numbers[path]
        level = float(self._levels[number])
        if np.isnan(level):
            level = speech_level(*self.read(path))
            self._levels[number] = level
        return level


def build_store(recordings, folder, sample_rate, gigabytes=4.0, scan=scan_speakers):
    """Make a store of a folder with a subfolder per speaker, or open the one that is there.

    A folder that has changed since (a file added, removed, longer, newer) is read again. The store
    appears whole or not at all. In distributed training call it on the main process first.

    Arguments
    ---------
    recordings : str or pathlib.Path
        See `papez_lobes.data.mixtures.speakers.scan_speakers`.
    folder : str or pathlib.Path
        The store to make.
    sample_rate : int
        In Hz, of decoded samples.
    gigabytes : float
        Samples are decoded and kept if they take no more than that (2 bytes each); otherwise each
        piece is read from its file when it is wanted.
    scan : callable
        What finds the recordings: `papez_lobes.data.mixtures.speakers.scan_speakers`, or
        `scan_files` for noise and impulse responses.

    Returns
    -------
    SpeechStore

    Raises
    ------
    UserError
        There is no speech, or nothing can be written to `folder`.
    """
    recordings, folder = Path(recordings).expanduser().absolute(), Path(folder)
    if not recordings.is_dir():
        raise UserError(f"{recordings}: no such folder; name a folder of recordings")
    settings = [FORMAT, str(recordings), sample_rate, gigabytes, scan.__name__]
    seen = fingerprint(settings, _files_below(recordings))
    if _is_whole(folder, seen):
        return SpeechStore(folder)
    speakers, skipped = scan(recordings)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        seconds = sum(u.seconds for part in speakers.values() for u in part)
        decoded = seconds * sample_rate * 2 <= gigabytes * 1e9
        rate = sample_rate if decoded else None
        spans, skipped = _write(aside, recordings, speakers, skipped, rate)
        index = {"fingerprint": seen, "root": str(recordings), "decoded": decoded,
                 "skipped": skipped, "speakers": spans}
        (aside / INDEX).write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another "
                        "output_folder or make room") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return SpeechStore(folder)


def scan_files(folder):
    """All recordings of a folder, at any depth, as those of one speaker without a name: noise, or
    the impulse responses of rooms. Arguments, results and errors as `scan_speakers`'.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "street" / "1.wav", np.zeros(4000), 8000)
    >>> scan_files(folder)[0]
    {'': [Utterance(path='street/1.wav', seconds=0.5, sample_rate=8000)]}
    """
    found, skipped = [], []
    audio, others = audio_files(folder)
    report_passed_over(folder, others)
    for path in audio:
        name = path.relative_to(folder).as_posix()
        try:
            info = audio_info(path)
            found.append(Utterance(name, info.seconds, info.sample_rate))
        except UserError as error:
            skipped.append((name, str(error).removeprefix(f"{path}: ")))
    if not found:
        raise UserError(f"{folder}: holds no recordings that can be read; name another folder")
    return {"": found}, skipped


def _write(folder, root, speakers, skipped, sample_rate):
    """Write names, table, levels and, if there is a rate, samples; returns (spans, skipped)."""
    everything = sorted((speaker, utterance.path, utterance)
                        for speaker, part in speakers.items() for utterance in part)
    rows, levels, skipped, spans, begin = [], [], [list(item) for item in skipped], {}, 0
    with (open(folder / NAMES, "w", encoding="utf-8") as names,
          open(folder / SAMPLES, "wb") as samples):
        for speaker, path, utterance in tqdm(everything, "decoding speech", unit="file",
                                             disable=None if sample_rate else True):
            frames, rate = round(utterance.seconds * utterance.sample_rate), utterance.sample_rate
            level = scale = np.nan
            if sample_rate:
                try:
                    decoded = read_audio(root / path, sample_rate)
                except UserError as error:
                    skipped.append([path, str(error).removeprefix(f"{root / path}: ")])
                    continue
                frames, rate = len(decoded), sample_rate
                steps, scale = _to_steps(decoded)
                samples.write(steps.tobytes())
                if speaker:  # noise and rooms have none, and are not set to a speech level
                    level = speech_level(decoded, sample_rate)
            rows.append((frames, rate, begin, scale))
            levels.append(level)
            names.write(path + END_OF_NAME)
            begin += frames if sample_rate else 0
            first, _ = spans.get(speaker, (len(rows) - 1, 0))
            spans[speaker] = (first, len(rows))
    if not rows:
        raise UserError(f"{root}: no recording in it can be decoded; the first: {skipped[0]}")
    np.save(folder / TABLE, np.array(rows, RECORD))
    np.save(folder / LEVELS, np.array(levels, "<f8"))
    return spans, skipped


def _to_steps(samples):
    """16-bit steps of samples [T], and what one is worth: that of a 16-bit file where the samples
    come from one, and otherwise such that the loudest sample is full scale."""
    scale = 1 / FULL_SCALE
    steps = samples.astype(np.float64) * FULL_SCALE
    if np.abs(steps).max() >= FULL_SCALE or not np.array_equal(steps, np.rint(steps)):
        scale = max(float(np.abs(samples).max()) / (FULL_SCALE - 1), np.finfo(np.float32).tiny)
        steps = samples / scale
    return np.rint(steps).astype("<i2"), scale


def _is_whole(folder, seen):
    """True if a folder holds a store with that fingerprint, and its files have their full size."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["fingerprint"] != seen:
            return False
        table = np.load(folder / TABLE)
        wanted = int(table["frames"].sum()) * 2 if index["decoded"] else 0
        names = (folder / NAMES).read_text(encoding="utf-8").count(END_OF_NAME)
        levels = np.load(folder / LEVELS, mmap_mode="r")
        return (folder / SAMPLES).stat().st_size == wanted and names == len(table) == len(levels)
    except (OSError, ValueError, KeyError, EOFError):
        return False


def _files_below(folder):
    """The audio below a folder, links followed, and Common Voice's tables, in sorted order."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if is_audio(name) or name.lower().endswith(TABLE_SUFFIX):
                yield os.path.join(parent, name)
