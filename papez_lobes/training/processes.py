"""What one of several training processes does for all of them."""

import sys

from speechbrain.utils.distributed import if_main_process, run_on_main

from papez_lobes.errors import UserError


def on_main(function, *args, **kwargs):
    """Run a function on the main process, for which the others wait.

    On its `UserError` all of them end, and the main one alone says why. With SpeechBrain's
    `run_on_main` the others would end on the broken connection, each with a traceback.

    Arguments
    ---------
    function : callable
        Its result goes to all processes.
    *args, **kwargs
        Its arguments.

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
