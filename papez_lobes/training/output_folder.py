"""The output folder of a training: one training at a time, of one separator, perhaps a branch."""

import json
import logging
import os
import shutil
import socket
from pathlib import Path

from filelock import FileLock, Timeout
from speechbrain.utils.checkpoints import METAFNAME

from papez_lobes.errors import UserError
from papez_lobes.files import sync_files, write_bytes, writing
from papez_lobes.training.checkpoints import PARTIAL, find_damage
from papez_lobes.training.curve import FILE as CURVE

logger = logging.getLogger(__name__)
LOCK, OWNER = ".lock", ".owner"
CHECKPOINTS = "CKPT+*"  # names of complete ones
# Files that a training writes into its folder, and replaces when it goes on.
WRITTEN = (
    "hyperparams.yaml", "train.py", "log.txt", "env.log", "train_log.txt", CURVE,
    "training_curve.png", "test_results.csv", "summary.json", "summary.md", "evaluation.html",
)
HYPERPARAMETERS = "separator.json"  # beside the checkpoints
# Hyperparameters that a trained model may change: its weights keep their shapes and their meaning.
FREE = {
    "max_depth", "min_train_depth", "dropout", "pruning", "execution", "halting_threshold",
    "halting_bias",
}
_claims = []  # locks of this process; a lock that is collected would be released


def claim_output_folder(
    folder: str | Path, debug: bool = False, save_folder: str | Path | None = None
) -> None:
    """Claim a folder, which is made if it does not exist, until this process ends.

    A trial run of a few batches (`debug`) must not replace a training. `save_folder`, which is
    claimed too, holds the checkpoints: `save` in the folder by default. UserError if a folder is
    not free or cannot be written to, or holds files that a training would replace, but no training.
    """
    folder = Path(folder)
    save_folder = folder / "save" if save_folder is None else Path(save_folder)
    trained = any(save_folder.glob(CHECKPOINTS))
    if debug and (trained or (folder / "bundle").exists()):
        raise UserError(f"{folder}: holds a training, which --debug would replace; choose another "
                        "output_folder for the trial run")
    for name in () if trained or (folder / OWNER).exists() else WRITTEN:
        if (folder / name).exists():
            raise UserError(f"{folder}: holds no training, but a file {name} that a training would "
                            "replace; choose another output_folder")
    _claim(folder, "output_folder")
    _claim(save_folder, "save_folder")


def _claim(folder, option):
    lock = FileLock(folder / LOCK)
    with writing(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{folder}: {_owner(folder)} is training in it; wait until it ends, "
                            f"or choose another {option}") from None
    write_bytes(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _claims.append(lock)


def _owner(folder):
    try:
        return (folder / OWNER).read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def branch_from(trunk: str | Path, save_folder: str | Path, output_folder: str | Path) -> None:
    """Copy the last checkpoint of another training, from which the new one then continues.

    `trunk` is its output folder, its folder of checkpoints, or one checkpoint. The checkpoint holds
    weights, optimizer, weight average, epoch and hours of audio; the curve up to there is copied
    too. Its score is left out: what is bundled at the end is the best of the new training alone,
    which may have other mixtures. The trunk is only read, and may be training at the same time. If
    the new training already has a checkpoint, nothing is done.
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
        meta = aside / METAFNAME
        text = meta.read_text(encoding="utf-8")  # keeps its size, which is checked
        meta.write_text(text.replace("si_snr_i:", "of_trunk:"), encoding="utf-8")
        for beside, target in (
            (checkpoint.parent / HYPERPARAMETERS, save_folder / HYPERPARAMETERS),
            (checkpoint.parent.parent / CURVE, output_folder / CURVE),
        ):
            if beside.is_file():
                write_bytes(target, beside.read_bytes())
        sync_files(aside)
        aside.rename(save_folder / checkpoint.name)
    except OSError as error:
        raise UserError(f"{checkpoint}: cannot be copied to {save_folder} ({error.strerror}); "
                        "make room, or choose another output_folder") from error


def _last_checkpoint(folder):
    if folder.match(CHECKPOINTS):
        found = [folder] if folder.is_dir() else []
    else:
        found = [*folder.glob(CHECKPOINTS), *folder.glob(f"save/{CHECKPOINTS}")]
    whole = [path for path in found if find_damage(path) is None]
    if not whole:
        damage = f" ({found[0].name}: {find_damage(found[0])})" if found else ""
        raise UserError(f"{folder}: holds no checkpoint to go on from{damage}; name the "
                        "output_folder of a training")
    return max(whole, key=lambda path: path.stat().st_mtime)


def keep_hyperparameters(save_folder: str | Path, separator: str, hyperparameters: dict) -> None:
    """Save the separator's hyperparameters beside its checkpoints, or check that they are the same.

    SpeechBrain would silently resume with weights that mean something else (another number of slots
    has the same shapes), or end in a traceback if shapes differ. `separator` names the file.
    """
    file = Path(save_folder, HYPERPARAMETERS)
    new = {"separator": separator} | {k: v for k, v in hyperparameters.items() if k not in FREE}
    if file.is_file() and any(Path(save_folder).glob(CHECKPOINTS)):
        try:
            old = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            logger.warning(f"{file}: is damaged; it is written anew, and not compared with")
            old = new
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise UserError(
                    f"{save_folder}: holds checkpoints of {name} {old.get(name)}, not "
                    f"{new.get(name)}; take that, or another output_folder"
                )
    write_bytes(file, json.dumps(new, indent=1).encode())
