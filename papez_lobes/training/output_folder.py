"""The output folder of a training: one training at a time, and no trial run over a real one."""

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes

LOCK, OWNER = ".lock", ".owner"
_claims = []  # locks of this process; a lock that is collected would be released


def claim_output_folder(folder: str | Path, debug: bool = False) -> None:
    """Claim a folder for this process, until it ends in whatever way.

    Arguments
    ---------
    folder : str or pathlib.Path
        The training's output folder, which is made if it does not exist.
    debug : bool
        This is a trial run of a few batches (SpeechBrain's `--debug`).

    Raises
    ------
    UserError
        Another training is running in the folder, it cannot be written to, or a trial run would
        replace what a training left there.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "out"
    >>> claim_output_folder(folder)
    >>> claim_output_folder(folder)
    Traceback (most recent call last):
    papez_lobes.errors.UserError: ...: process ... on ... is training in it; wait until it ends, \
or choose another output_folder
    """
    folder = Path(folder)
    if debug and (any(folder.glob("save/CKPT+*")) or (folder / "bundle").exists()):
        raise UserError(f"{folder}: holds a training, which --debug would replace; choose another "
                        "output_folder for the trial run")
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: {_owner(folder)} is training in it; wait until it ends, or "
                        "choose another output_folder") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another "
                        "output_folder") from error
    write_bytes(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _claims.append(lock)


def _owner(folder):
    try:
        return (folder / OWNER).read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
