"""Work that the main process does for all training processes."""

import sys
from collections.abc import Callable

from speechbrain.utils.distributed import if_main_process, run_on_main

from papez_lobes.errors import UserError


def on_main(function: Callable, *args: object, **kwargs: object) -> object:
    """Run a function on the main process while the others wait.

    If it raises a `UserError`, all processes end, and only the main one prints the message. With
    SpeechBrain's `run_on_main` the others would end with a traceback of a broken connection.

    Arguments
    ---------
    function : callable
        The function.
    *args, **kwargs
        Its arguments.

    Returns
    -------
    object
        The function's result, on all processes.

    Example
    -------
    >>> on_main(max, 1, 2)
    2
    """
    def attempt():
        try:
            return function(*args, **kwargs), None
        except UserError as error:
            return None, str(error)

    result, mistake = run_on_main(attempt)
    if mistake is None:
        return result
    if if_main_process():
        raise UserError(mistake)
    sys.exit(2)
