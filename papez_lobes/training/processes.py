"""Processes of a training: work that one does for all, and how Ctrl-C ends them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

from papez_lobes.errors import UserError


def end_at_ctrl_c(program: str) -> None:
    """Let Ctrl-C end this process and its workers at any moment, with one line and status 130.

    A KeyboardInterrupt can be raised anywhere: in a data loader's worker, whose end is then
    reported as a crash, or where exceptions are ignored. So SIGINT is blocked here and in all
    processes that are started from here, and a thread waits for it. What a training writes is whole
    at any moment, so it can be resumed. Where signals cannot be blocked (Windows), or are ignored
    (a background job), nothing changes.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN or not hasattr(signal, "pthread_sigmask"):
        return
    process = os.getpid()
    # multiprocessing may unblock the signal in this thread; forked workers inherit the handler
    signal.signal(signal.SIGINT, lambda *_: os.getpid() == process and _end(program))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def await_signal():
        signal.sigwait({signal.SIGINT})
        _end(program)

    threading.Thread(target=await_signal, daemon=True).start()


def _end(program):
    if os.environ.get("RANK", "0") == "0":  # one line for all processes of torchrun
        os.write(sys.stderr.fileno(), f"\n{program}: stopped\n".encode())
    workers = multiprocessing.active_children()
    sys.setswitchinterval(60)  # seconds: the main thread is not to report the workers' deaths
    for worker in workers:
        worker.kill()
    os._exit(130)


def on_main(function: Callable, *args: object, **kwargs: object) -> object:
    """Run a function on the main process while the others wait, and return its result on all.

    If it raises a `UserError`, all processes end, and only the main one prints the message. With
    SpeechBrain's `run_on_main` the others would end with a traceback of a broken connection.
    """
    from speechbrain.utils.distributed import if_main_process, run_on_main  # takes seconds

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
