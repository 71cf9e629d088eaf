"""Separation of many recordings, by one process or several."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from papez_lobes.errors import UserError
from papez_lobes.inference.files import FileOptions, Report, separate_recording
from papez_lobes.inference.interface import SpeechSeparation, load
from papez_lobes.inference.recordings import TEMPLATE, Recording, estimate_paths
from papez_lobes.inference.remote import STANDARD_INPUT, exists, fetched, is_url, put

REFUSE, OVERWRITE, SKIP = "refuse", "overwrite", "skip"  # what happens to files that exist


@dataclass(frozen=True)
class BatchOptions:
    """What a process needs to separate recordings; it can be pickled."""

    model: dict  # arguments of `papez_lobes.load`
    out: str = "separated"  # output folder, or its URL
    template: str = TEMPLATE  # of the files' names, see `estimate_paths`
    ext: str = "wav"  # of the files' names
    existing: str = REFUSE  # or OVERWRITE or SKIP
    plot: bool = False  # also draw a picture of each recording, `<track>.png`
    files: FileOptions = field(default_factory=FileOptions)


@dataclass
class Outcome:
    """What became of one recording."""

    recording: Recording
    status: str  # "separated", "skipped" or "failed"
    report: Report | None = None  # of a separated recording
    reason: str | None = None  # why it failed, in one line

    def to_json(self) -> str:
        """One line of JSON."""
        line = {"source": self.recording.source, "status": self.status}
        if self.report is not None:
            line |= asdict(self.report) | {"lone_voice": self.report.lone_voice}
        if self.reason is not None:
            line["reason"] = self.reason
        return json.dumps(line, default=str)


class BatchSeparator:
    """Separates recordings one by one, and reports those that fail instead of raising.

    Every way of running this package over many recordings calls it.

    Arguments
    ---------
    options : BatchOptions
        What to load and how to write.
    separator : SpeechSeparation, optional
        A separator that is loaded already.
    """

    def __init__(self, options: BatchOptions, separator: SpeechSeparation | None = None):
        self.options = options
        self.separator = load(**options.model) if separator is None else separator

    def __call__(
        self, recording: Recording, progress: Callable[[float], object] = lambda seconds: None
    ) -> Outcome:
        """Separate a recording and write its files; `progress` as in `separate_recording`."""
        try:
            if is_done(recording, self.options, self.separator.num_speakers):
                return Outcome(recording, "skipped")
            report = self._separate(recording, progress)
        except UserError as error:
            return Outcome(recording, "failed", reason=str(error))
        except Exception as error:  # such as a GPU without memory: the others go on
            return Outcome(recording, "failed", reason=f"{type(error).__name__}: {error}")
        return Outcome(recording, "separated", report)

    def _separate(self, recording, progress):
        """Separate a recording; URLs are fetched to temporary files, and uploaded from there."""
        out = self.options.out
        with fetched(recording.source) as source:
            try:
                if not is_url(out):
                    return self._write(source, recording, out, progress)
                with TemporaryDirectory(prefix="papez-") as folder:
                    report = self._write(source, recording, folder, progress)
                    urls = [_join(out, path.relative_to(folder)) for path in report.paths]
                    for path, url in zip(report.paths, urls):
                        put(path, url)
                    report.paths = urls
                    return report
            except UserError as error:  # which names the temporary file
                raise UserError(str(error).replace(source, recording.source)) from error

    def _write(self, source, recording, out, progress):
        """Separate a file of this machine, which holds a recording, into a folder of it."""
        options = self.options
        *paths, picture = _names(recording.track, options, self.separator.num_speakers, out)
        # of a recording that is done in part, all is written again
        overwrite = options.existing != REFUSE
        report = separate_recording(
            self.separator, source, paths, options.files, overwrite, progress)
        if options.plot:
            from papez_lobes.inference.picture import draw_tracks

            piped = recording.source == STANDARD_INPUT
            draw_tracks(picture, source, paths, "standard input" if piped else Path(source).name)
            report.paths.append(picture)
        return report


def is_done(
    recording: Recording, options: BatchOptions, num_speakers: int,
    exists: Callable[[str | Path], bool] | None = None,
) -> bool:
    """Tell whether a recording is to be left out, as its files exist.

    `exists` tells whether a file or URL does; by default this asks its file system.

    Raises
    ------
    UserError
        A file exists and may not be replaced, or is the recording itself.
    """
    exists = exists or _exists
    *wanted, picture = _names(recording.track, options, num_speakers, options.out)
    if options.plot:
        wanted.append(picture)
    if recording.source in wanted:  # of files here, `TrackWriter` knows more
        raise UserError(f"{recording.source}: would be overwritten; choose another --out")
    if options.existing == OVERWRITE:
        return False
    existing = [path for path in wanted if exists(path)]
    if options.existing == REFUSE and existing:
        raise UserError(f"{existing[0]}: exists; --overwrite replaces it, and --skip-existing "
                        "leaves out recordings that are done")
    return len(existing) == len(wanted)


def check_names(
    recordings: Sequence[Recording], options: BatchOptions, num_speakers: int,
) -> None:
    """Check before the first recording is separated that no result would replace another file.

    Arguments
    ---------
    recordings : sequence of Recording
        All recordings of the job.
    options : BatchOptions
        How they are written.
    num_speakers : int
        C, of the separator.

    Raises
    ------
    UserError
        Two recordings have estimates of the same name, or an estimate would replace another
        recording of the job.
    """
    sources = {_place(recording.source): recording.source for recording in recordings}
    owners = {}
    for recording in recordings:
        *wanted, picture = _names(recording.track, options, num_speakers, options.out)
        own = _place(recording.source)
        for path in [*wanted, picture] if options.plot else wanted:
            place = _place(path)
            owner = owners.setdefault(place, recording)
            if owner is not recording:
                raise UserError(f"--filename {options.template}: {path} would be of both "
                                f"{owner.source} and {recording.source}; name files by {{track}}")
            if place not in sources or place == own or options.existing == REFUSE:
                continue  # an estimate of its own name is a matter of this recording alone
            if options.existing == OVERWRITE or not is_done(recording, options, num_speakers):
                raise UserError(f"{sources[place]}: is a recording of this job, and would be "
                                f"overwritten by an estimate of {recording.source}; choose "
                                "another --out")


def _place(name):
    return str(name) if is_url(name) else os.path.abspath(name)


def _names(track, options, num_speakers, out):
    """The paths or URLs of a recording's tracks, and of its picture."""
    tracks = estimate_paths("", track, num_speakers, options.template, options.ext,
                            options.files.residual)
    return [_join(out, name) for name in [*tracks, Path(f"{track}.png")]]


def _join(out, name):
    return f"{out.rstrip('/')}/{name.as_posix()}" if is_url(out) else Path(out, name)


def _exists(path):
    return exists(path) if is_url(path) else os.path.lexists(path)


def separate_all(
    recordings: Sequence[Recording], options: BatchOptions, jobs: int,
) -> Iterator[Outcome]:
    """Separate recordings with `jobs` processes; yields the outcomes as they come."""
    context = get_context("spawn")  # a fork of a process with threads can hang
    pool = ProcessPoolExecutor(jobs, context, _start_process, (options, jobs))
    try:
        futures = [pool.submit(_separate, recording) for recording in recordings]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            f"one of the {jobs} processes was killed or could not start, perhaps for want of "
            "memory; use fewer --jobs, and --skip-existing to go on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_process(options, jobs):
    """Load the separator in a new process, which gets its share of the cores."""
    global _batch_separator
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # Ctrl-C: end without a traceback
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    _batch_separator = BatchSeparator(options)


def _separate(recording):
    return _batch_separator(recording)
