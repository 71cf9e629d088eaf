"""Checkpoints that are whole or not there."""

import os
import shutil

from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

PARTIAL = "partial+"


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, writing each checkpoint aside and renaming it when it is whole.

    Its parent writes the file that makes a folder a checkpoint first, so that a training killed
    in the middle of saving resumes from half a checkpoint, or cannot resume.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> checkpointer = AtomicCheckpointer(folder, {"model": torch.nn.Linear(2, 2)})
    >>> saved = checkpointer.save_checkpoint()
    >>> [path.name for path in folder.iterdir()] == [saved.path.name]
    True
    """

    def save_checkpoint(self, *arguments, **options):
        """As the parent's, which see."""
        if if_main_process():
            for stale in self.checkpoints_dir.glob(f"{PARTIAL}*"):  # of a run that was killed
                shutil.rmtree(stale, ignore_errors=True)
        saved = super().save_checkpoint(*arguments, **options)
        ddp_barrier()  # every process has written its part
        if saved is not None:
            whole = saved.path.with_name(saved.path.name.removeprefix(PARTIAL))
            os.replace(saved.path, whole)
            files = {name: whole / path.name for name, path in saved.paramfiles.items()}
            saved = Checkpoint(whole, saved.meta, files)
        ddp_barrier()  # no process looks for it before it is there
        return saved

    def _new_checkpoint_dirpath(self):
        return self._aside(super()._new_checkpoint_dirpath())

    def _custom_checkpoint_dirpath(self, name):
        return self._aside(super()._custom_checkpoint_dirpath(name))

    @staticmethod
    def _aside(path):
        return path.with_name(PARTIAL + path.name)
