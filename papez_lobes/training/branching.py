"""Branches: trainings that continue another training's checkpoint in a folder of their own."""

import shutil
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes
from papez_lobes.training.checkpoints import PARTIAL
from papez_lobes.training.curve import FILE as CURVE
from papez_lobes.training.resuming import KEPT_OPTIONS

CHECKPOINTS = "CKPT+*"


def branch_from(trunk: str | Path, save_folder: str | Path, output_folder: str | Path) -> None:
    """Copy the last checkpoint of a training to a new one, which then continues from it.

    The checkpoint holds weights, optimizer, weight average, epoch and hours of audio; the curve up
    to there is copied too. The trunk is only read, and may be training at the same time. If the
    new training already has a checkpoint, nothing is done.

    Arguments
    ---------
    trunk : str or pathlib.Path
        Output folder of the other training, its folder of checkpoints, or one checkpoint.
    save_folder, output_folder : str or pathlib.Path
        Folders of the new training.

    Raises
    ------
    UserError
        The trunk has no checkpoint, or it cannot be copied.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "trunk/save/CKPT+2026").mkdir(parents=True)
    >>> branch_from(folder / "trunk", folder / "new/save", folder / "new")
    >>> [path.name for path in (folder / "new/save").iterdir()]
    ['CKPT+2026']
    """
    save_folder, output_folder = Path(save_folder), Path(output_folder)
    if any(save_folder.glob(CHECKPOINTS)):
        return
    checkpoint = _last_checkpoint(Path(trunk).expanduser())
    aside = save_folder / f"{PARTIAL}{checkpoint.name}"
    try:
        save_folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(checkpoint, aside)
        for beside, target in ((checkpoint.parent / KEPT_OPTIONS, save_folder / KEPT_OPTIONS),
                               (checkpoint.parent.parent / CURVE, output_folder / CURVE)):
            if beside.is_file():
                write_bytes(target, beside.read_bytes())
        aside.rename(save_folder / checkpoint.name)
    except OSError as error:
        raise UserError(f"{checkpoint}: cannot be copied to {save_folder} ({error.strerror}); "
                        "make room, or choose another output_folder") from error


def _last_checkpoint(folder):
    if folder.match(CHECKPOINTS):
        found = [folder] if folder.is_dir() else []
    else:
        found = [*folder.glob(CHECKPOINTS), *folder.glob(f"save/{CHECKPOINTS}")]
    if not found:
        raise UserError(f"{folder}: holds no checkpoint to go on from; name the output_folder of a "
                        "training")
    return max(found, key=lambda path: path.stat().st_mtime)
