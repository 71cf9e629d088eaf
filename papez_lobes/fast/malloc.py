"""Memory that was freed: what the C library does with it, where that is glibc."""

import ctypes

# Of its mallopt (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory():
    """Let the process keep what it frees, up to 2 GiB.

    A training step on a CPU frees what its graph held, some hundred megabytes, and the next one
    takes as much again. The C library gives it back to the system in between and gets it anew
    page by page, with thousands of page faults a step.

    Returns
    -------
    bool
        Whether this C library can be told so.

    Example
    -------
    >>> kept = keep_freed_memory()
    """
    wanted = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28, _MMAP_THRESHOLD: 2**25}
    return all([_glibc("mallopt", *pair) for pair in wanted.items()])


def give_back_freed_memory():
    """Give it back to the system, so that using it again shows.

    Returns
    -------
    bool
        Whether there was any.

    Example
    -------
    >>> given = give_back_freed_memory()
    """
    return bool(_glibc("malloc_trim", 0))


def _glibc(name, *arguments):
    """What that function gives; 0 where the C library has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return 0
