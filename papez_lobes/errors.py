"""The one exception that stands for a mistake of the user's, and how programs end on it."""

import sys
from contextlib import contextmanager


class UserError(Exception):
    """What a user can mend: says in one line what was wrong, where, and what to do.

    Command lines print its message and exit with status 2, without a traceback. The lobes
    themselves raise `ValueError`, naming the YAML key, since they may be used without us.

    Example
    -------
    >>> raise UserError("mix.wav: no such file; name an audio file")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: mix.wav: no such file; name an audio file
    """


@contextmanager
def one_line_errors(program):
    """End the program with one line and status 2 on a `UserError`, with 130 on Ctrl-C.

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
        # out of a data loader's process it comes back inside that process's traceback
        message = str(error).rpartition(f"{UserError.__name__}: ")[2].strip()
        print(f"{program}: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)
