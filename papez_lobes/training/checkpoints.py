"""Checkpoints that appear complete or not at all."""

import json
import logging
import os
import pickle
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import yaml
from speechbrain.utils.checkpoints import METAFNAME, Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from papez_lobes.errors import UserError
from papez_lobes.files import disk_problem, sync_files, sync_folder

logger = logging.getLogger(__name__)
PARTIAL = "partial+"  # how names begin while files are written
SIZES = "sizes.json"  # bytes of each file of a checkpoint, by name


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, which writes each checkpoint aside and renames it when complete.

    SpeechBrain first writes the file that marks a folder as a checkpoint. A training killed while
    it saves would then resume from half a checkpoint, or not at all. Here all files are on the disk
    before the checkpoint gets its name. A checkpoint that was damaged later is named in a warning
    and not used: training resumes from the one before.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> checkpointer = AtomicCheckpointer(folder, {"model": torch.nn.Linear(2, 2)})
    >>> saved = checkpointer.save_checkpoint()
    >>> [path.name for path in folder.iterdir()] == [saved.path.name]
    True
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._damages = {}  # by folder; each is examined once

    def save_checkpoint(self, *arguments, **options) -> Checkpoint | None:
        """Like `Checkpointer.save_checkpoint`, but atomic; UserError if the disk is full."""
        self._remove_partial()
        try:
            saved = super().save_checkpoint(*arguments, **options)
            ddp_barrier()  # every process has written its part
            if saved is not None:
                saved = self._finish(saved)
        except (OSError, RuntimeError) as error:
            reason = disk_problem(error)
            if reason is None:
                raise
            self._remove_partial()
            raise UserError(
                f"{self.checkpoints_dir}: the checkpoint cannot be written ({reason}); make room "
                "and repeat the command, which goes on from the last one"
            ) from error
        ddp_barrier()  # no process looks for it before it is renamed
        return saved

    def save_and_keep_only(self, *arguments, **options) -> None:
        """Like `Checkpointer.save_and_keep_only`, whose default list of keys grows at each call."""
        super().save_and_keep_only(*arguments, **{"importance_keys": [], **options})

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Like `Checkpointer.load_checkpoint`, with one line for files that hold something else.

        SpeechBrain and torch load tensors and plain values alone: no file of a checkpoint can run
        code.
        """
        try:
            super().load_checkpoint(checkpoint)
        except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, TypeError, ValueError,
                yaml.YAMLError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{checkpoint.path}: is no checkpoint of this training ({reason}); "
                            "delete it, or choose another output_folder") from error

    def _remove_partial(self):
        if if_main_process():
            for stale in self.checkpoints_dir.glob(f"{PARTIAL}*"):  # of a run that was killed
                shutil.rmtree(stale, ignore_errors=True)

    def _finish(self, saved):
        """Write a checkpoint's files to the disk, then rename its folder."""
        files = [path for path in saved.path.iterdir() if path.is_file()]
        sizes = {path.name: path.stat().st_size for path in files}
        (saved.path / SIZES).write_text(json.dumps(sizes), encoding="utf-8")
        sync_files(saved.path)
        whole = saved.path.with_name(saved.path.name.removeprefix(PARTIAL))
        os.replace(saved.path, whole)
        sync_folder(self.checkpoints_dir)
        paramfiles = {name: whole / path.name for name, path in saved.paramfiles.items()}
        return Checkpoint(whole, saved.meta, paramfiles)

    def _list_checkpoint_dirs(self):
        """Like SpeechBrain's, without damaged checkpoints."""
        folders = super()._list_checkpoint_dirs()
        for folder in folders:
            if folder not in self._damages:
                self._damages[folder] = damage = find_damage(folder)
                if damage:
                    logger.warning(f"{folder}: is damaged ({damage}) and is not used; delete it")
        return [folder for folder in folders if self._damages[folder] is None]

    def _new_checkpoint_dirpath(self):
        return self._aside(super()._new_checkpoint_dirpath())

    def _custom_checkpoint_dirpath(self, name):
        return self._aside(super()._custom_checkpoint_dirpath(name))

    @staticmethod
    def _aside(path):
        return path.with_name(PARTIAL + path.name)


def find_damage(checkpoint: Path) -> str | None:
    """Find a file of a checkpoint that is missing, empty or cut short; None if all are whole.

    Checkpoints of earlier versions do not list the sizes of their files. Of these, only the files
    that torch wrote are checked.
    """
    try:
        if not isinstance(yaml.safe_load((checkpoint / METAFNAME).read_text("utf-8")), dict):
            return f"{METAFNAME} is empty"
    except (OSError, ValueError, yaml.YAMLError):
        return f"{METAFNAME} cannot be read"
    sizes = {}
    with suppress(OSError, ValueError):
        sizes = json.loads((checkpoint / SIZES).read_text(encoding="utf-8"))
    for name, size in sizes.items() if isinstance(sizes, dict) else ():
        if not (checkpoint / name).is_file() or (checkpoint / name).stat().st_size != size:
            return f"{name} is missing or cut short"
    for path in checkpoint.glob("*.ckpt"):
        with open(path, "rb") as stream:
            head = stream.read(2)
        if not head or (head == b"PK" and not zipfile.is_zipfile(path)):
            return f"{path.name} is empty or cut short"
    return None
