"""The values that options take, and checks whose errors name the option in the YAML file."""

import math
import operator
import os
from dataclasses import dataclass
from numbers import Integral, Real

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
    """The values that an option takes.

    Arguments
    ---------
    kind : str
        One of the kinds of this module.
    least, above, most, below : float, optional
        Bounds of a number: at least `least`, above `above`, at most `most`, below `below`.
    choices : tuple of str
        The only texts that are taken, if there are any.
    null : bool
        True if null is taken too.

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
        bounds = (
            ("of at least", self.least, operator.ge),
            ("above", self.above, operator.gt),
            ("at most", self.most, operator.le),
            ("below", self.below, operator.lt),
        )
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


COUNT = Option(WHOLE, least=1)
MODEL_OPTIONS = {  # of Papez's modules
    **dict.fromkeys((
        "dim", "N_encoder_out", "bottleneck_dim", "kernel_size", "kernel_stride", "num_spks",
        "num_heads", "ffn_dim", "num_steps", "halting_dim", "convolution_size",
    ), COUNT),
    **dict.fromkeys(("max_depth", "min_train_depth"), Option(WHOLE, least=1, null=True)),
    **dict.fromkeys(("close_remainder", "attend_padding"), Option(FLAG)),
    "num_slots": Option(WHOLE, least=0),
    "chunk_tokens": Option(WHOLE, least=2),
    "dropout": Option(NUMBER, least=0, below=1),
    "halting_threshold": Option(NUMBER, above=0, most=1),
    "halting_bias": Option(NUMBER),
    "pruning": Option(TEXT, choices=("soft", "hard")),
    "execution": Option(TEXT, choices=("auto", "packed", "masked")),
}


def check_options(**values: object) -> None:
    """Raise ValueError unless the options of a module have values that they take.

    Example
    -------
    >>> check_options(num_slots=4, attend_padding="no")
    Traceback (most recent call last):
    ValueError: attend_padding is 'no': it must be True or False
    """
    for name, value in values.items():
        MODEL_OPTIONS[name].check(name, value)


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
