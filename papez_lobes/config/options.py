"""The options of experiments and separators, and the values that each one takes."""

import datetime
import difflib
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from papez_lobes.config.checks import is_number, is_whole
from papez_lobes.errors import UserError

# The kinds of options, as messages name them.
WHOLE = "a whole number"
NUMBER = "a number"
INTERVAL = "a list of two numbers, the least first"
LIST = "a list"
FLAG = "True or False"
TEXT = "text"
PATH = "a path"
ANY = "a YAML value"


@dataclass(frozen=True)
class Option:
    """The values that an option takes.

    Arguments
    ---------
    kind : str
        One of the kinds of this module.
    least, above, most : float, optional
        Bounds of a number: it is at least `least`, above `above`, and at most `most`.
    choices : tuple of str
        The only texts that are taken, if there are any.
    null : bool
        Whether null is taken too.

    Example
    -------
    >>> option = Option(NUMBER, above=0, most=1, null=True)
    >>> str(option), option.takes(1), option.takes(0), option.takes("one")
    ('a number above 0 and at most 1, or null', True, False, False)
    """

    kind: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    null: bool = False

    def __str__(self) -> str:
        bounds = " and ".join(f"{words} {bound:g}" for words, bound, _ in self._bounds())
        words = f"{self.kind} {bounds}".strip()
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
        elif words == NUMBER:
            words = "a finite number"
        return words + (", or null" if self.null else "")

    def _bounds(self):
        """Each bound that there is, with its words and whether a value keeps to it."""
        bounds = (
            ("of at least", self.least, operator.ge),
            ("above", self.above, operator.gt),
            ("at most", self.most, operator.le),
        )
        return [bound for bound in bounds if bound[1] is not None]

    def takes(self, value) -> bool:
        """Whether the option takes a value."""
        if value is None:
            return self.null or self.kind == ANY
        if self.choices:
            return value in self.choices
        if self.kind in (WHOLE, NUMBER):
            right_kind = is_whole(value) if self.kind == WHOLE else is_number(value)
            return right_kind and all(keeps(value, bound) for _, bound, keeps in self._bounds())
        if self.kind == INTERVAL:
            return (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
                    and value[0] <= value[1])
        if self.kind == PATH:
            return isinstance(value, (str, os.PathLike)) and str(value) != ""
        types = {FLAG: bool, TEXT: str, LIST: list, ANY: object}
        return isinstance(value, types[self.kind])

    def check(self, name: str, value) -> None:
        """Raise ValueError, naming the option, unless it takes a value.

        Example
        -------
        >>> Option(NUMBER, above=0).check("lr", -1)
        Traceback (most recent call last):
        ValueError: lr is -1: it must be a number above 0
        """
        if not self.takes(value):
            raise ValueError(f"{name} is {value!r}: it must be {self}")

    def parse(self, name: str, text: str):
        """The value that a text of the command line stands for; ValueError if it is not taken.

        Texts and paths are taken as they are, except that a path's `~` is expanded. All else is
        YAML.

        Example
        -------
        >>> Option(PATH).parse("data_folder", "speech #1"), Option(NUMBER).parse("lr", "1e-3")
        ('speech #1', 0.001)
        """
        value = text
        if self.kind == PATH:
            value = os.path.expanduser(text)
        elif self.kind == FLAG:
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif self.kind != TEXT:
            try:
                value = YAML(typ="safe").load(text)
            except (YAMLError, ValueError):
                raise ValueError(f"{name} is {text!r}: it must be {self}") from None
            if isinstance(value, datetime.date):
                value = text
        self.check(name, value)
        return value


COUNT = Option(WHOLE, least=1)
# Options of the project's experiments, of SpeechBrain, and of SpeechBrain's separators, whose
# modules would fail in use only. Papez's modules check their own. What is not here is a path where
# its name says so, and otherwise of the kind of its default.
OPTIONS = {
    **dict.fromkeys((
        "num_spks", "sample_rate", "N_epochs", "batch_size", "valid_batch_size",
        "mixtures_per_epoch", "grad_accumulation_factor", "debug_batches", "profile_steps",
        "N_encoder_out", "kernel_size", "bottleneck_dim", "hidden_dim", "num_blocks",
        "num_repeats", "num_heads", "rnn_dim", "ffn_dim", "intra_layers", "inter_layers",
        "segment_layers", "memory_layers", "segment_tokens",
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
        "dereverberate",
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
    "noise_snr_db": Option(INTERVAL),
    "chunk_tokens": Option(WHOLE, least=2),
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
