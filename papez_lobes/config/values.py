"""What the values of an experiment may be: checked once everything is resolved, before it runs."""

import inspect
import math

from torch.utils.data import DataLoader

from papez_lobes.errors import UserError

NEEDED = (
    "data_folder", "num_spks", "sample_rate", "seed", "output_folder", "save_folder", "modules",
    "optimizer", "lr", "lr_scheduler", "epoch_counter", "checkpointer", "train_logger", "loss",
    "train_dataloader_opts", "eval_dataloader_opts", "segment_seconds", "ponder_cost",
    "average", "start_from", "branch_from", "step_schedule", "loss_threshold", "max_batch_seconds",
    "num_workers", "prepare", "skip_prep", "speech_folder", "train_set",
    "train_log", "train_curve", "tensorboard", "save_audio",
)
INFINITY = float("inf")
# key: (kind, least, most) and None where null is allowed too; "+0": above 0
RANGES = {
    "seed": (int, 0, INFINITY), "num_spks": (int, 1, INFINITY), "sample_rate": (int, 1, INFINITY),
    "N_epochs": (int, 1, INFINITY), "batch_size": (int, 1, INFINITY),
    "valid_batch_size": (int, 1, INFINITY), "num_workers": (int, 0, INFINITY),
    "save_audio": (int, 0, INFINITY), "mixtures_per_epoch": (int, 1, INFINITY),
    "warmup_steps": (int, 0, INFINITY), "lr": (float, "+0", INFINITY),
    "lr_decay": (float, "+0", 1), "weight_decay": (float, 0, INFINITY),
    "ponder_cost": (float, 0, INFINITY), "max_grad_norm": (float, "+0", INFINITY),
    "ema_decay": (float, 0, 0.999999),
    "ckpt_interval_minutes": (float, 0, INFINITY), "training_minutes": (float, 0, INFINITY, None),
    "segment_seconds": (float, "+0", INFINITY, None),
    "train_hours": (float, "+0", INFINITY, None), "decay_hours": (float, "+0", INFINITY, None),
    "tilt_db": (float, 0, 40), "equaliser_db": (float, 0, 40), "max_gain_db": (float, 0, INFINITY),
    "speed_change": (float, 0, 0.49), "memory_gigabytes": (float, 0, INFINITY),
    "loss_threshold": (float, -INFINITY, INFINITY, None),
    "max_batch_seconds": (float, "+0", INFINITY, None),
}
CHOICES = {"precision": ("fp32", "bf16", "fp16"), "mixture_version": ("min", "max")}
LOADER_OPTIONS = {*inspect.signature(DataLoader).parameters, "looped_nominal_epoch"} - {"dataset"}


def check_values(hparams, file):
    """Refuse an experiment that could not run.

    Arguments
    ---------
    hparams : dict
        As HyperPyYAML gives them.
    file : str or pathlib.Path
        Where they come from, for the message.

    Raises
    ------
    UserError
        A key is missing, or a value is of a wrong type, out of its range, or not finite.

    Example
    -------
    >>> check_values({key: 1 for key in NEEDED} | {"lr": -1}, "a.yaml")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: a.yaml: lr is -1: it must be a number above 0
    """
    for key in NEEDED:
        if key not in hparams:
            raise UserError(f"{file}: has no key {key!r}; see the experiments of the project")
    for key, (kind, *bounds) in RANGES.items():
        if key in hparams and not _fits(hparams[key], kind, *bounds):
            raise UserError(f"{file}: {key} is {hparams[key]!r}: it must be "
                            f"{_wanted(kind, *bounds)}")
    for key, choices in CHOICES.items():
        if hparams.get(key, choices[0]) not in choices:
            raise UserError(f"{file}: {key} is {hparams[key]!r}: it must be one of "
                            f"{', '.join(choices)}")
    for key in ("train_dataloader_opts", "eval_dataloader_opts"):
        options = hparams[key] if isinstance(hparams[key], dict) else {}
        for name in sorted(options.keys() - LOADER_OPTIONS):
            raise UserError(f"{file}: {key} has {name!r}, which no data loader takes")


def _fits(value, kind, least, most, *null):
    if value is None:
        return bool(null)
    if isinstance(value, bool) or not isinstance(value, (int,) if kind is int else (int, float)):
        return False
    if isinstance(least, str):
        return math.isfinite(value) and float(least) < value <= most
    return math.isfinite(value) and least <= value <= most


def _wanted(kind, least, most, *null):
    what = "a whole number" if kind is int else "a number"
    low = f"above {least[1:]}" if isinstance(least, str) else f"of at least {least}"
    parts = [what, *([low] if least != -INFINITY else []),
             *([f"and at most {most}"] if most != INFINITY else [])]
    return " ".join(parts) + (", or null" if null else "")
