"""The options of experiments and separators, and the values that each one takes.

Errors name the option in the YAML file.
"""

import datetime
import difflib
import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

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
_TYPES = {
    WHOLE: Integral, NUMBER: Real, INTERVAL: list, LIST: list, FLAG: bool, TEXT: str,
    PATH: (str, os.PathLike), ANY: object,
}


@dataclass(frozen=True)
class Option:
    """The values that an option takes, of one of the kinds of this module.

    A number is at least `least`, above `above`, at most `most` and below `below`, where these are
    set. If there are `choices`, only these texts are taken. With `null`, null is taken too.

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
    below: float | None = None
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
        """The bounds that are set: (words, bound, comparison) of each."""
        bounds = (("of at least", self.least, operator.ge), ("above", self.above, operator.gt),
                  ("at most", self.most, operator.le), ("below", self.below, operator.lt))
        return [bound for bound in bounds if bound[1] is not None]

    def takes(self, value) -> bool:
        """True if the option takes a value."""
        if value is None:
            return self.null or self.kind == ANY
        if self.choices:
            return value in self.choices
        if not isinstance(value, _TYPES[self.kind]):
            return False
        if self.kind in (WHOLE, NUMBER):
            return _is_number(value) and all(keeps(value, bound) for _, bound, keeps
                                             in self._bounds())
        if self.kind == INTERVAL:
            return len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]
        return self.kind != PATH or str(value) != ""

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


def _is_number(value):
    """True for a finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


# Options of Papez, of the project's experiments, of SpeechBrain, and of SpeechBrain's separators,
# whose own modules would fail only in use. An option that is not here is a path if its name says
# so, and otherwise of the kind of its default.
OPTIONS = {name: option for names, option in (
    ("dim N_encoder_out bottleneck_dim kernel_size kernel_stride num_spks num_heads ffn_dim "
     "num_steps halting_dim convolution_size sample_rate N_epochs batch_size valid_batch_size "
     "mixtures_per_epoch grad_accumulation_factor debug_batches profile_steps hidden_dim "
     "num_blocks num_repeats rnn_dim intra_layers inter_layers segment_layers memory_layers "
     "segment_tokens", Option(WHOLE, least=1)),
    ("max_depth min_train_depth optimizer_step_limit", Option(WHOLE, least=1, null=True)),
    ("num_slots seed num_workers save_audio warmup_steps nonfinite_patience profile_warmup",
     Option(WHOLE, least=0)),
    ("chunk_tokens", Option(WHOLE, least=2)),
    ("conv_kernel", Option(WHOLE, least=3)),
    ("lr max_grad_norm", Option(NUMBER, above=0)),
    ("segment_seconds max_batch_seconds train_hours decay_hours",
     Option(NUMBER, above=0, null=True)),
    ("halting_threshold lr_decay", Option(NUMBER, above=0, most=1)),
    ("weight_decay ponder_cost ckpt_interval_minutes max_gain_db memory_gigabytes",
     Option(NUMBER, least=0)),
    ("training_minutes", Option(NUMBER, least=0, null=True)),
    ("dropout", Option(NUMBER, least=0, below=1)),
    ("ema_decay", Option(NUMBER, least=0, most=0.999999)),
    ("speed_change", Option(NUMBER, least=0, most=0.49)),
    ("turns single_speaker noise_share room_share duration_exponent",
     Option(NUMBER, least=0, most=1)),
    ("tilt_db equaliser_db", Option(NUMBER, least=0, most=40)),
    ("halting_bias", Option(NUMBER)),
    ("loss_threshold", Option(NUMBER, null=True)),
    ("noise_snr_db overlap pause_seconds", Option(INTERVAL)),
    ("close_remainder attend_padding skip_prep check_audio leave_out_damaged tensorboard "
     "reverberant dereverberate trust_bundle", Option(FLAG)),
    ("experiment_name train_split mixture_type", Option(TEXT)),
    ("pruning", Option(TEXT, choices=("soft", "hard"))),
    ("execution", Option(TEXT, choices=("auto", "packed", "masked"))),
    ("check_sums", Option(TEXT, choices=("warn", "error", "off"))),
    ("mixture_version", Option(TEXT, choices=("min", "max"))),
    ("data_folder output_folder save_folder train_log", Option(PATH)),
    ("log_config", Option(PATH, null=True)),
) for name in names.split()}
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


def check_options(**values: object) -> None:
    """Raise ValueError unless the options of a module have values that they take.

    Example
    -------
    >>> check_options(num_slots=4, attend_padding="no")
    Traceback (most recent call last):
    ValueError: attend_padding is 'no': it must be True or False
    """
    for name, value in values.items():
        OPTIONS[name].check(name, value)


def check_heads(num_heads: int, width: int) -> None:
    """Raise ValueError if the number of attention heads does not divide a width.

    Example
    -------
    >>> check_heads(3, 16)
    Traceback (most recent call last):
    ValueError: num_heads is 3: it must divide the width of 16
    """
    check_options(num_heads=num_heads)
    if width % num_heads:
        raise ValueError(f"num_heads is {num_heads}: it must divide the width of {width}")
