"""The options of experiments and separators, and the values that each one takes."""

import datetime
import difflib
import os
from collections.abc import Iterable

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from papez_lobes.config.checks import (
    ANY,
    COUNT,
    FLAG,
    INTERVAL,
    LIST,
    MODEL_OPTIONS,
    NUMBER,
    PATH,
    TEXT,
    WHOLE,
    Option,
)
from papez_lobes.errors import UserError

# Options of the project's experiments, of SpeechBrain, of Papez, and of SpeechBrain's separators,
# whose own modules would fail only in use. An option that is not here is a path if its name says
# so, and otherwise of the kind of its default.
OPTIONS = {
    **MODEL_OPTIONS,
    **dict.fromkeys((
        "sample_rate", "N_epochs", "batch_size", "valid_batch_size", "mixtures_per_epoch",
        "grad_accumulation_factor", "debug_batches", "profile_steps", "hidden_dim", "num_blocks",
        "num_repeats", "rnn_dim", "intra_layers", "inter_layers", "segment_layers",
        "memory_layers", "segment_tokens",
    ), COUNT),
    **dict.fromkeys((
        "seed", "num_workers", "save_audio", "warmup_steps", "nonfinite_patience",
        "profile_warmup",
    ), Option(WHOLE, least=0)),
    **dict.fromkeys(("lr", "max_grad_norm"), Option(NUMBER, above=0)),
    **dict.fromkeys((
        "weight_decay", "ponder_cost", "ckpt_interval_minutes", "max_gain_db", "memory_gigabytes",
    ), Option(NUMBER, least=0)),
    **dict.fromkeys(("tilt_db", "equaliser_db"), Option(NUMBER, least=0, most=40)),
    **dict.fromkeys((
        "segment_seconds", "max_batch_seconds", "train_hours", "decay_hours",
    ), Option(NUMBER, above=0, null=True)),
    **dict.fromkeys((
        "skip_prep", "check_audio", "leave_out_damaged", "tensorboard", "reverberant",
        "dereverberate", "trust_bundle",
    ), Option(FLAG)),
    **dict.fromkeys(("experiment_name", "train_split", "mixture_type"), Option(TEXT)),
    **dict.fromkeys(("data_folder", "output_folder", "save_folder", "train_log"), Option(PATH)),
    "log_config": Option(PATH, null=True),
    "check_sums": Option(TEXT, choices=("warn", "error", "off")),
    "mixture_version": Option(TEXT, choices=("min", "max")),
    "optimizer_step_limit": Option(WHOLE, least=1, null=True),
    "training_minutes": Option(NUMBER, least=0, null=True),
    "loss_threshold": Option(NUMBER, null=True),
    "lr_decay": Option(NUMBER, above=0, most=1),
    "ema_decay": Option(NUMBER, least=0, most=0.999999),
    "speed_change": Option(NUMBER, least=0, most=0.49),
    **dict.fromkeys(("turns", "single_speaker"), Option(NUMBER, least=0, most=1)),
    **dict.fromkeys(("noise_snr_db", "overlap", "pause_seconds"), Option(INTERVAL)),
    "conv_kernel": Option(WHOLE, least=3),
}
PATH_ENDINGS = ("_folder", "_dir", "_file", "_path", "_from", "_log")


def find_option(name: str, default=None) -> Option:
    """What an option takes, by its name or else by the kind of its default.

    Example
    -------
    >>> str(find_option("lr")), str(find_option("my_folder")), str(find_option("mine", 3))
    ('a number above 0', 'a path, or null', 'a whole number')
    """
    if name in OPTIONS:
        return OPTIONS[name]
    if name.endswith(PATH_ENDINGS):
        return Option(PATH, null=True)
    # in this order, as a bool is an int too
    kinds = {bool: FLAG, int: WHOLE, float: NUMBER, str: TEXT, list: LIST}
    return Option(next((kind for of, kind in kinds.items() if isinstance(default, of)), ANY))


def parse_value(name: str, text: str, option: Option):
    """The value that a text of the command line stands for; ValueError if it is not taken.

    Texts and paths are taken as they are, except that a path's `~` is expanded. All else is YAML.

    Example
    -------
    >>> parse_value("data_folder", "speech #1", Option(PATH))
    'speech #1'
    >>> parse_value("lr", "1e-3", Option(NUMBER))
    0.001
    """
    value = text
    if option.kind == PATH:
        value = os.path.expanduser(text)
    elif option.kind == FLAG:
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif option.kind != TEXT:
        try:
            value = YAML(typ="safe").load(text)
        except (YAMLError, ValueError):
            raise ValueError(f"{name} is {text!r}: it must be {option}") from None
        if isinstance(value, datetime.date):
            value = text
    option.check(name, value)
    return value


def check_known(name: str, known: Iterable[str], where: str) -> None:
    """Raise UserError unless an option is one of those known, and name the nearest of them.

    `where` says in the message where the option was given.

    Example
    -------
    >>> check_known("num_slot", ["num_slots", "num_steps"], "command line")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: command line: there is no option 'num_slot'; did you mean \
'num_slots'?
    """
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see the YAML file for what there is"
        raise UserError(f"{where}: there is no option {str(name)!r}; {hint}")
