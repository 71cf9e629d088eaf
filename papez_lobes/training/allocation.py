"""Memory that a training step on a CPU takes and frees."""

import ctypes

# Of the C library's mallopt (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory():
    """Let the process keep what it frees, up to 2 GiB, where the C library is glibc.

    A training step frees what its graph held, some hundred megabytes, and the next one takes as
    much again. The C library gives it back to the system in between and gets it anew page by page:
    thousands of page faults a step, each of them slower than the arithmetic on that page.

    Returns
    -------
    bool
        Whether this C library can be told so.

    Example
    -------
    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    wanted = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28, _MMAP_THRESHOLD: 2**25}
    return all([mallopt(*pair) for pair in wanted.items()])
