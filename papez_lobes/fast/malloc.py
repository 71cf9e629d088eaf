"""Freed memory: kept by the process or given back, where the C library is glibc."""

import ctypes

# Parameters of its mallopt (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, up to 2 GiB; True if glibc accepted the settings.

    A training step on a CPU frees some hundred megabytes, and the next step needs as much again.
    By default glibc returns this memory to the system, which costs thousands of page faults a step.

    Example
    -------
    >>> kept = keep_freed_memory()
    """
    wanted = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28, _MMAP_THRESHOLD: 2**25}
    return all([_glibc("mallopt", *pair) for pair in wanted.items()])


def give_back_freed_memory() -> bool:
    """Return freed memory to the system, so that using it again is measured; True if any was."""
    return bool(_glibc("malloc_trim", 0))


def _glibc(name, *arguments):
    """Call a function of glibc; 0 where the C library has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return 0
