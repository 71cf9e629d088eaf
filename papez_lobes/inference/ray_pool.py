"""Pools of Ray's actors, which work on the machines of a cluster.

They separate many recordings (`papez separate --ray`) or measure estimates (`papez evaluate
--ray`). Ray's actors are used, and not Ray Data. Ray Data repeats what a killed worker did without
end, so that one recording that takes too much memory would stop all others. It also hands out
results by blocks of recordings, all of which it does again where one was lost.
"""

import os
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
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
TRIES = 3  # of a task whose worker is killed
START_TRIES = 3  # of workers in a row that cannot start
CHECK_SECONDS = 60  # without news, after which the cluster is looked at


@contextmanager
def open_pool(
    address: str = LOCAL, jobs: int | None = None, kind: str = "CPU",
    initializer: Callable | None = None, *initargs: object,
) -> Iterator["ActorPool"]:
    """Connect to a Ray cluster, and make a pool of actors, until the context ends.

    Arguments
    ---------
    address : str
        Of the cluster's head, as `ray.init` takes it, or "local" to use this machine alone.
    jobs : int, optional
        Greatest number of actors. Default: one for each core or GPU that the cluster has now.
    kind : str
        "CPU" or "GPU": what an actor needs one of.
    initializer : callable, optional
        A function of this package that each actor calls once, before its first task.
    *initargs : object
        Its arguments, which are sent to a machine once.

    Raises
    ------
    UserError
        Ray is not installed, the cluster cannot be reached, or it has no such core or GPU.
    """
    ray = _connect(address)
    try:
        available = int(ray.cluster_resources().get(kind, 0))
        if not available:
            raise UserError(f"--ray {address}: this cluster has no {kind}; add machines or name "
                            "another --device")
        yield ActorPool(ray, jobs or available, kind, initializer, *initargs)
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
    except Exception as error:  # Ray raises that class itself where its processes start too slowly
        reason = " ".join(str(error).split())
        advice = ("try again when this machine is less busy" if address == LOCAL else
                  "start one by `ray start --head`, or use --ray local")
        raise UserError(f"--ray {address}: no cluster answers ({reason}); {advice}") from error
    return ray


class KilledTask(UserError):
    """A task's worker was killed `TRIES` times."""


class Task(Future):
    """The future of a task; waiting for its result keeps the pool at work."""

    def __init__(self, pool: "ActorPool", work: tuple):
        super().__init__()
        self.pool, self.work = pool, work
        self.tries = 0

    def result(self) -> object:
        """What the function returned; raises what it raised, or `KilledTask`."""
        while not self.done():
            self.pool.advance()
        return super().result()


class ActorPool:
    """Like `concurrent.futures.ProcessPoolExecutor`, with Ray's actors as processes.

    Each actor does one task at a time. If it is killed, another does its task, at most three times
    in all. The pool works while `submit`, `advance` or a task's `result` is called.

    Arguments
    ---------
    ray : module
        Ray, connected.
    size : int
        Greatest number of actors.
    kind, initializer, *initargs
        See `open_pool`.
    """

    def __init__(self, ray, size: int, kind: str = "CPU", initializer: Callable | None = None,
                 *initargs: object):
        # Ray's own retries have no limit for a task; `Task.tries` counts them
        resources = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        worker = ray.remote(max_restarts=0, max_task_retries=0, **resources)(_Worker)
        initargs = [ray.put(argument) for argument in initargs]
        self._start_actor = lambda: worker.remote(initializer, *initargs)
        self.ray, self.size, self.kind = ray, size, kind
        self.waiting = deque()  # tasks
        self.idle = []  # actors
        self.busy = {}  # what an actor promised -> (the actor, its task or None: it starts)
        self.failed_starts = 0

    def submit(self, function: Callable, *arguments: object) -> Task:
        """Let an actor call a function of this package, without waiting for it."""
        task = self.add(function, *arguments)
        self.advance(timeout=0)
        return task

    def add(self, function: Callable, *arguments: object) -> Task:
        """Like `submit`, but the task is handed out by the next call of `advance`."""
        self.waiting.append(Task(self, (function, *arguments)))
        return self.waiting[-1]

    def advance(self, timeout: float | None = None) -> list[Task]:
        """Hand out tasks, and wait until an actor has started, is done or lost.

        At least one task must be unfinished. Returns the tasks that became done, at most one.
        Raises UserError if no actor can start, or no machine is left.
        """
        self._hand_out()
        done = []
        for promise in self._wait(timeout):
            actor, task = self.busy.pop(promise)
            self._receive(promise, actor, task)
            if task is not None and task.done():
                done.append(task)
        self._hand_out()
        return done

    def _hand_out(self):
        """Give tasks to idle actors, and start actors for the others."""
        while self.waiting and self.idle:
            actor, task = self.idle.pop(), self.waiting.popleft()
            self.busy[actor.work.remote(*task.work)] = actor, task
        starting = sum(task is None for _, task in self.busy.values())
        for _ in range(min(len(self.waiting) - starting, self.size - len(self.busy))):
            actor = self._start_actor()
            self.busy[actor.start.remote()] = actor, None

    def _wait(self, timeout):
        """Wait for one promise; UserError if the machines that could keep it are gone.

        Ray itself would wait for new machines without end.
        """
        pause = CHECK_SECONDS if timeout is None else timeout
        while True:
            ready = self.ray.wait([*self.busy], timeout=pause)[0]
            if ready or timeout is not None:
                return ready
            if not self.ray.cluster_resources().get(self.kind):
                raise UserError(f"no machine with a {self.kind} is left in the Ray cluster; start "
                                "it again, and repeat the command")

    def _receive(self, promise, actor, task):
        """Take what an actor has promised, or note why there is nothing."""
        errors = self.ray.exceptions
        try:
            result = self.ray.get(promise)
        except errors.RayTaskError as error:
            if task is None:
                self._lose(actor, task, f"{error.cause}")
            else:  # the function has raised it, and the actor goes on
                self.idle.append(actor)
                task.set_exception(error.cause)
        except errors.RayError as error:
            self._lose(actor, task, str(error).strip().splitlines()[0])
        else:
            self.failed_starts = 0
            self.idle.append(actor)
            if task is not None:
                task.set_result(result)

    def _lose(self, actor, task, reason):
        """Let another actor do the task of one that is lost, unless that happens too often."""
        self.ray.kill(actor)  # it may be alive, and unreachable
        if task is None:
            self.failed_starts += 1
            if self.failed_starts >= START_TRIES:
                raise UserError(f"no worker of Ray's can start ({reason}); use fewer --jobs if "
                                "memory is short")
            return
        task.tries += 1
        if task.tries < TRIES:
            self.waiting.appendleft(task)
        else:
            task.set_exception(KilledTask(f"its worker was killed {TRIES} times, perhaps for want "
                                          "of memory"))


class _Worker:
    """The actor: a process that does one task at a time."""

    def __init__(self, initializer, *initargs):
        self.initializer, self.initargs = initializer, initargs

    def start(self):
        """Call the initializer."""
        if self.initializer is not None:
            self.initializer(*self.initargs)
        del self.initargs
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def work(self, function, *arguments):
        """Do a task."""
        return function(*arguments)


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
    kind = "GPU" if str(options.model.get("device")).startswith("cuda") else "CPU"
    bundle = Path(options.model["bundle"])
    in_worker = replace(options, out=_absolute(options.out), existing=OVERWRITE)
    # resolved, so that the name of ".." is that of a folder
    loading = (_load_separator, in_worker, bundle.resolve().name, _read_bundle(bundle))
    with open_pool(address, jobs, kind, *loading) as pool:
        tasks = {}
        for recording, outcome in _left_out(recordings, options, num_speakers):
            if outcome is not None:
                yield outcome
            else:
                tasks[pool.add(_separate, _absolute_recording(recording))] = recording
        while tasks:
            for task in pool.advance():
                yield _outcome(tasks.pop(task), task)


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


def _outcome(recording, task):
    """The outcome of a recording whose task is done."""
    error = task.exception()
    if error is None:
        return replace(task.result(), recording=recording)
    reason = error if isinstance(error, KilledTask) else repr(error)
    return Outcome(recording, "failed", reason=f"{recording.source}: {reason}")


def _load_separator(options, name, files):
    """Load the separator in a worker.

    `name` is that of the bundle's folder or file, and `files` what `_read_bundle` gives.
    """
    global _batch_separator
    with tempfile.TemporaryDirectory(prefix="papez-") as folder:
        for place, content in (files or {}).items():
            path = Path(folder, name, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        bundle = name if files is None else str(Path(folder, name))
        model = options.model | {"bundle": bundle}
        _batch_separator = BatchSeparator(replace(options, model=model))


def _separate(recording):
    """Separate a recording in a worker."""
    return _batch_separator(recording)


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
