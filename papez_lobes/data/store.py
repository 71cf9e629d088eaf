"""A folder of recordings as a store: found and decoded once, then shared by all processes.

Names, durations and, where they fit, the samples themselves lie in flat files that every process
maps into its memory: a machine holds them once, however many processes and workers read.
"""

import hashlib
import json
import os
import shutil
import uuid
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import audio_info, read_audio
from papez_lobes.data.corpora.commonvoice import TABLE_SUFFIX
from papez_lobes.data.lookup import AUDIO_SUFFIXES
from papez_lobes.data.mixtures.speakers import Utterance, scan_speakers
from papez_lobes.errors import UserError

INDEX, NAMES, TABLE, SAMPLES = "index.json", "names.txt", "table.npy", "samples.f32"
ORDER = "order.npy"  # numbers of the recordings, sorted by name
# of a recording: where its name ends in NAMES; frames and rate; where its samples begin
RECORD = np.dtype([("name_end", "<i8"), ("frames", "<i8"), ("rate", "<i4"), ("begin", "<i8")])


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
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        self.root, self.decoded = Path(index["root"]), index["decoded"]
        self.skipped = [tuple(item) for item in index["skipped"]]
        self._spans = {name: tuple(span) for name, span in index["speakers"].items()}
        self._open()

    def _open(self):
        self._table = np.load(self.folder / TABLE, mmap_mode="r")
        self._order = np.load(self.folder / ORDER, mmap_mode="r")
        self._names = np.memmap(self.folder / NAMES, np.uint8, "r")
        self._samples = np.memmap(self.folder / SAMPLES, np.float32, "r") if self.decoded else None

    def __getstate__(self):
        """Without the maps: another process opens its own, of the same pages."""
        maps = ("_table", "_order", "_names", "_samples")
        return {key: value for key, value in self.__dict__.items() if key not in maps}

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
        first, after = self._spans[speaker]
        return [self._utterance(number) for number in range(first, after)]

    @property
    def utterances(self):
        """All utterances, sorted by speaker and path."""
        return [utterance for speaker in self for utterance in self[speaker]]

    @property
    def seconds(self):
        """Of all recordings."""
        return float((self._table["frames"] / self._table["rate"]).sum())

    def read(self, path, start=0, frames=None):
        """(samples [T] in float32, their rate in Hz) of a piece; `start` and `frames` count at the
        rate that the store says of the utterance."""
        record = self._table[self._find(path)]
        if self._samples is None:
            return read_audio(self.root / path, start=start, frames=frames), int(record["rate"])
        stop = record["frames"] if frames is None else min(start + frames, record["frames"])
        begin = record["begin"]
        return np.array(self._samples[begin + start : begin + stop]), int(record["rate"])

    def _name(self, number):
        begin = self._table["name_end"][number - 1] + 1 if number else 0
        return bytes(self._names[begin : self._table["name_end"][number]]).decode()

    def _utterance(self, number):
        record = self._table[number]
        return Utterance(self._name(number), float(record["frames"] / record["rate"]),
                         int(record["rate"]))

    def _find(self, path):
        """The number of a recording."""
        place = bisect_left(self._order, path, key=self._name)
        if place == len(self._order) or self._name(self._order[place]) != path:
            raise KeyError(path)
        return self._order[place]


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
        Samples are decoded and kept if they take no more than that; otherwise each piece is read
        from its file when it is wanted.
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
    settings = [str(recordings), sample_rate, gigabytes, scan.__name__]
    fingerprint = _fingerprint(recordings, settings)
    if _is_of(folder, fingerprint):
        return SpeechStore(folder)
    speakers, skipped = scan(recordings)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        seconds = sum(u.seconds for part in speakers.values() for u in part)
        decoded = seconds * sample_rate * 4 <= gigabytes * 1e9
        rate = sample_rate if decoded else None
        spans, skipped = _write(aside, recordings, speakers, skipped, rate)
        index = {"fingerprint": fingerprint, "root": str(recordings), "decoded": decoded,
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
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            try:
                info = audio_info(path)
                if info.frames:
                    found.append(Utterance(name, info.seconds, info.sample_rate))
            except UserError as error:
                skipped.append((name, str(error).removeprefix(f"{path}: ")))
    if not found:
        raise UserError(f"{folder}: holds no recordings that can be read; name another folder")
    return {"": found}, skipped


def _write(folder, root, speakers, skipped, sample_rate):
    """Write names, table and, if there is a rate, samples; returns (spans, skipped)."""
    everything = sorted((speaker, utterance.path, utterance)
                        for speaker, part in speakers.items() for utterance in part)
    rows, skipped, spans, ends, begin = [], [list(item) for item in skipped], {}, 0, 0
    with (open(folder / NAMES, "wb") as names, open(folder / SAMPLES, "wb") as samples):
        for speaker, path, utterance in tqdm(everything, "decoding speech", unit="file",
                                             disable=None if sample_rate else True):
            frames, rate = round(utterance.seconds * utterance.sample_rate), utterance.sample_rate
            if sample_rate:
                try:
                    decoded = read_audio(root / path, sample_rate)
                except UserError as error:
                    skipped.append([path, str(error).removeprefix(f"{root / path}: ")])
                    continue
                frames, rate = len(decoded), sample_rate
                samples.write(decoded.astype("<f4").tobytes())
            name = path.encode()
            ends += len(name)
            rows.append((ends, frames, rate, begin))
            names.write(name + b"\n")
            ends += 1
            begin += frames if sample_rate else 0
            first, _ = spans.get(speaker, (len(rows) - 1, 0))
            spans[speaker] = (first, len(rows))
    if not rows:
        raise UserError(f"{root}: no recording in it can be decoded; the first: {skipped[0]}")
    np.save(folder / TABLE, np.array(rows, RECORD))
    paths = (folder / NAMES).read_text(encoding="utf-8").splitlines()
    np.save(folder / ORDER, np.array(sorted(range(len(paths)), key=paths.__getitem__)))
    return spans, skipped


def _is_of(folder, fingerprint):
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return index["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _fingerprint(root, settings):
    """A hash of names, sizes and times of the audio (and of Common Voice's tables) below a folder,
    and of the settings."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for parent, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith((*AUDIO_SUFFIXES, TABLE_SUFFIX)):
                status = os.stat(os.path.join(parent, name))
                digest.update(f"{parent}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
