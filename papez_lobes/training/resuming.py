"""Hyperparameters that a resumed training must keep."""

import json
import logging
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes

logger = logging.getLogger(__name__)
KEPT_OPTIONS = "separator.json"  # beside the checkpoints
# Hyperparameters that a trained model may change: its weights keep their shapes and their meaning.
FREE = {
    "max_depth", "min_train_depth", "dropout", "pruning", "execution", "halting_threshold",
    "halting_bias",
}


def keep_hyperparameters(save_folder: str | Path, separator: str, hyperparameters: dict) -> None:
    """Save the separator's hyperparameters beside its checkpoints, or check that they are the same.

    SpeechBrain would silently resume with weights that mean something else (another number of
    slots has the same shapes), or end in a traceback if shapes differ.

    Arguments
    ---------
    save_folder : str or pathlib.Path
        Folder of the checkpoints.
    separator : str
        Name of the separator file.
    hyperparameters : dict
        Hyperparameters of the separator: name to value.

    Raises
    ------
    UserError
        There are checkpoints of another separator, or of one with other hyperparameters.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> keep_hyperparameters(folder, "papez.yaml", {"num_slots": 10, "max_depth": 16})
    >>> (folder / "CKPT+1").mkdir()
    >>> keep_hyperparameters(folder, "papez.yaml", {"num_slots": 10, "max_depth": 8})
    >>> keep_hyperparameters(folder, "papez.yaml", {"num_slots": 4, "max_depth": 8})
    Traceback (most recent call last):
    papez_lobes.errors.UserError: ...: holds checkpoints of num_slots 10, not 4; take that, or \
another output_folder
    """
    kept = Path(save_folder, KEPT_OPTIONS)
    new = {"separator": separator} | {k: v for k, v in hyperparameters.items() if k not in FREE}
    if kept.is_file() and any(Path(save_folder).glob("CKPT+*")):
        try:
            old = json.loads(kept.read_text(encoding="utf-8"))
        except ValueError:
            logger.warning(f"{kept}: is damaged; it is written anew, and not compared with")
            old = new
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise UserError(
                    f"{save_folder}: holds checkpoints of {name} {old.get(name)}, not "
                    f"{new.get(name)}; take that, or another output_folder"
                )
    write_bytes(kept, json.dumps(new, indent=1).encode())
