"""Errors of the user's, and how programs report them."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of a disk that takes no more


class UserError(Exception):
    """An error that the user can correct.

    Its message says in one line what was wrong, where (file and option), and what to do. Programs
    print it and exit with status 2, without a traceback. Modules of a separator raise `ValueError`
    instead, and name the option, as they can be used without this package's programs.

    Example
    -------
    >>> raise UserError("mix.wav: no such file; name an audio file")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: mix.wav: no such file; name an audio file
    """


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """A context that ends the program with one line and status 2 on a `UserError`.

    The line begins with the program's name. A full disk is such an error too, whatever was
    written. Ctrl-C ends the program with one line and status 130.

    Example
    -------
    >>> with one_line_errors("papez"):
    ...     raise UserError("mix.wav: no such file")
    Traceback (most recent call last):
    SystemExit: 2
    """
    try:
        yield
    except UserError as error:
        # a data loader's process hands it on at the end of its own traceback
        message = str(error).rpartition(f"{UserError.__name__}: ")[2].strip()
        print(f"{program}: {message}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"{program}: {error.filename or 'a file'}: cannot be written ({error.strerror}); "
              "make room and repeat the command", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)
