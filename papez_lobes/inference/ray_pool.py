"""Separation of many recordings by the machines of a Ray cluster.

Ray's actors are used, and not Ray Data. Ray Data repeats what a killed worker did without end, so
that one recording that takes too much memory would stop all others. It also hands out results by
blocks of recordings, all of which it does again where one was lost.
"""

import os
import socket
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.inference.batch import (
    OVERWRITE,
    BatchOptions,
    BatchSeparator,
    Outcome,
    is_done,
)
from papez_lobes.inference.recordings import Recording
from papez_lobes.inference.remote import STANDARD_INPUT, is_url, list_files

LOCAL = "local"  # the address of a cluster that is started here, for this command alone
TRIES = 3  # of a recording whose worker is killed
START_TRIES = 3  # of workers in a row that cannot start


def separate_on_ray(
    recordings: Sequence[Recording], options: BatchOptions, num_speakers: int,
    address: str = LOCAL, jobs: int | None = None,
) -> Iterator[Outcome]:
    """Separate recordings by a pool of Ray's actors; yields the outcomes as they come.

    Each actor loads the separator once, has one core, or one GPU if the device is CUDA, and
    separates one recording at a time. If it is killed, its recording goes to another, at most
    three times in all. This package must be installed on all machines. They must reach the
    recordings and the output folder by the same names, unless these are URLs; the bundle is sent
    to them.

    Arguments
    ---------
    recordings : sequence of Recording
        The recordings.
    options : BatchOptions
        What to load and how to write. What is to be left out, or may not be replaced, is told
        before the first recording is separated: a worker that was killed may have written files
        that the next one replaces.
    num_speakers : int
        C, of the separator.
    address : str
        Of the cluster's head, as `ray.init` takes it, or "local" to use this machine alone.
    jobs : int, optional
        Number of actors. Default: one for each core or GPU that the cluster has now.

    Raises
    ------
    UserError
        Ray is not installed, the cluster cannot be reached, or no actor can start.
    """
    ray = _connect(address)
    try:
        waiting = deque()
        for recording, outcome in _left_out(recordings, options, num_speakers):
            if outcome is not None:
                yield outcome
            else:
                waiting.append(recording)
        kind = "GPU" if str(options.model.get("device")).startswith("cuda") else "CPU"
        available = int(ray.cluster_resources().get(kind, 0))
        if not available:
            raise UserError(f"--ray {address}: this cluster has no {kind}; add machines or name "
                            "another --device")
        size = min(jobs or available, len(waiting))
        pool = _Pool(ray, replace(options, existing=OVERWRITE), kind)
        yield from pool.run(waiting, size)
    finally:
        ray.shutdown()


def _connect(address):
    """Ray, connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--ray {address}: needs ray: `pip install papez-lobes[ray]`") from error
    try:
        if ":" in address:  # Ray itself would wait for minutes
            host, _, port = address.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=address, log_to_driver=False, logging_level="error",
            **({"include_dashboard": False} if address == LOCAL else {}),
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--ray {address}: no cluster answers ({reason}); start one by `ray start "
                        "--head`, or use --ray local") from error
    return ray


def _left_out(recordings, options, num_speakers):
    """Each recording, absolute, and its outcome if it is not to be separated, else None."""
    exists = None
    if is_url(options.out) and options.existing != OVERWRITE:
        exists = set(list_files(options.out)).__contains__  # one listing, not a question a file
    for recording in recordings:
        outcome = None
        try:
            if recording.source == STANDARD_INPUT:
                raise UserError("-: standard input cannot be read by --ray; name a file")
            if is_done(recording, options, num_speakers, exists):
                outcome = Outcome(recording, "skipped")
        except UserError as error:
            outcome = Outcome(recording, "failed", reason=str(error))
        yield recording, outcome


class _Pool:
    """Actors that separate, each one recording at a time.

    Arguments
    ---------
    ray : module
        Ray, connected.
    options : BatchOptions
        Of the actors.
    kind : str
        "CPU" or "GPU": what an actor needs one of.
    """

    def __init__(self, ray, options, kind):
        bundle = Path(options.model["bundle"])
        options = replace(options, out=_absolute(options.out))
        # Ray's own retries have no limit for a recording; `run` counts them
        resources = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        worker = ray.remote(max_restarts=0, max_task_retries=0, **resources)(_Worker)
        files = ray.put(_read_bundle(bundle))
        self._start_actor = lambda: worker.remote(options, bundle.name, files)
        self.ray = ray
        self.busy = {}  # what an actor promised -> (the actor, its recording or None: it starts)
        self.tries = Counter()
        self.failed_starts = 0

    def run(self, waiting: deque, size: int) -> Iterator[Outcome]:
        """Separate recordings with `size` actors."""
        unfinished = len(waiting)
        for _ in range(size):
            self._start()
        while unfinished:
            promise = self.ray.wait([*self.busy])[0][0]
            actor, recording = self.busy.pop(promise)
            try:
                outcome = self._result(promise, recording)
            except _LostActor as lost:
                self._replace(actor, recording, lost)
                if recording is None:
                    continue
                if self.tries[recording] < TRIES:
                    waiting.appendleft(recording)
                    continue
                unfinished -= 1
                reason = (f"{recording.source}: its worker was killed {TRIES} times, perhaps for "
                          "want of memory")
                yield Outcome(recording, "failed", reason=reason)
                continue
            if waiting:
                following = waiting.popleft()
                task = _absolute_recording(following)
                self.busy[actor.separate.remote(task)] = actor, following
            else:  # makes room for the actor that takes the place of a lost one
                self.ray.kill(actor)
            if outcome is not None:
                unfinished -= 1
                yield replace(outcome, recording=recording)

    def _start(self):
        actor = self._start_actor()
        self.busy[actor.start.remote()] = actor, None

    def _result(self, promise, recording):
        """The outcome of a recording; None of an actor that has started."""
        errors = self.ray.exceptions
        try:
            outcome = self.ray.get(promise)
        except errors.RayTaskError as error:
            if recording is None:
                raise _LostActor(f"{error.cause}") from error
            return Outcome(recording, "failed", reason=f"{recording.source}: {error.cause!r}")
        except errors.RayError as error:
            raise _LostActor(str(error).strip().splitlines()[0]) from error
        self.failed_starts = 0
        return outcome

    def _replace(self, actor, recording, lost):
        """Start another actor in the place of a lost one; UserError if that keeps failing."""
        self.ray.kill(actor)  # it may be alive, and unreachable
        if recording is None:
            self.failed_starts += 1
        else:
            self.tries[recording] += 1
        if self.failed_starts >= START_TRIES:
            raise UserError(f"no worker of Ray's can start ({lost}); use fewer --jobs if memory "
                            "is short")
        self._start()


class _LostActor(Exception):
    """An actor, or its machine, was killed."""


class _Worker:
    """The actor: a process that separates one recording at a time.

    Arguments
    ---------
    options : BatchOptions
        What to load and how to write.
    name : str
        Of the bundle's folder or file.
    files : dict or None
        Path in the bundle -> bytes; None of a bundle that comes with this package.
    """

    def __init__(self, options, name, files):
        self.options, self.name, self.files = options, name, files

    def start(self):
        """Load the separator."""
        with tempfile.TemporaryDirectory(prefix="papez-") as folder:
            for place, content in (self.files or {}).items():
                path = Path(folder, self.name, place)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            bundle = self.name if self.files is None else str(Path(folder, self.name))
            model = self.options.model | {"bundle": bundle}
            self.batch_separator = BatchSeparator(replace(self.options, model=model))
        del self.files
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def separate(self, recording):
        """Separate one recording."""
        return self.batch_separator(recording)


def _read_bundle(path):
    """Path in the bundle -> bytes, of a folder or of one model file (whose path is '').

    None of a bundle that comes with this package, which all machines have.
    """
    if not path.exists():
        return None
    if path.is_file():
        return {"": path.read_bytes()}
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".png"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def _absolute(name):
    return name if is_url(name) else os.path.abspath(name)


def _absolute_recording(recording):
    return replace(recording, source=_absolute(recording.source))
