"""Timing of functions side by side, with PyTorch's benchmark timer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from torch.utils.benchmark import Measurement, Timer
from tqdm import tqdm

T = TypeVar("T")
MIN_SECONDS = 0.1  # of a function in a round: a short one runs several times


def time_interleaved(
    functions: Mapping[T, Callable[[], object]], rounds: int, threads: int = 1,
) -> dict[T, Measurement]:
    """Time functions, which take no arguments, in turns.

    A slow period of the machine then falls on all of them. Every measurement is preceded by a run
    that does not count, since the one before has left its data in the caches. Each function is
    measured once in every round, with this number of PyTorch's threads. Work on an accelerator is
    waited for. `times` of the results are seconds per call.

    Example
    -------
    >>> import time
    >>> sleeps = {ms: lambda ms=ms: time.sleep(ms / 1000) for ms in (1, 20)}
    >>> measured = time_interleaved(sleeps, rounds=2)
    >>> measured[1].median < 0.02 <= measured[20].median
    True
    """
    timers = {
        name: Timer("function()", globals={"function": function}, num_threads=threads)
        for name, function in functions.items()
    }
    measured = {name: [] for name in timers}
    for name in tqdm(list(turns(list(timers), rounds)), "measuring", unit="run", leave=False,
                     disable=None):
        measured[name].append(timers[name].blocked_autorange(min_run_time=MIN_SECONDS))
    return {name: Measurement.merge(parts)[0] for name, parts in measured.items()}


def turns(items: Sequence[T], rounds: int) -> Iterator[T]:
    """All items once a round; each round begins with another one."""
    for index in range(rounds):
        first = index % max(1, len(items))
        yield from items[first:]
        yield from items[:first]
