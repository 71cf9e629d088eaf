"""Checks of a module's hyperparameters: errors that name the option in the YAML file."""

import math
from numbers import Integral, Real


def is_whole(value) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value) -> bool:
    """Whether a value is a finite number; True and False are none."""
    return is_whole(value) or (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    )


def check_whole(key: str, value, least: int = 1) -> None:
    """Raise ValueError if an option is not a whole number of at least `least`.

    Example
    -------
    >>> check_whole("num_steps", "eight")
    Traceback (most recent call last):
    ValueError: num_steps is 'eight': it must be a whole number of at least 1
    """
    if not is_whole(value) or value < least:
        raise ValueError(f"{key} is {value!r}: it must be a whole number of at least {least}")


def check_number(key: str, value) -> None:
    """Raise ValueError if an option is not a finite number.

    Example
    -------
    >>> check_number("halting_bias", float("nan"))
    Traceback (most recent call last):
    ValueError: halting_bias is nan: it must be a finite number
    """
    if not is_number(value):
        raise ValueError(f"{key} is {value!r}: it must be a finite number")


def check_flag(key: str, value) -> None:
    """Raise ValueError if an option is not True or False.

    YAML 1.2 reads yes and no as text, and any text counts as true.

    Example
    -------
    >>> check_flag("attend_padding", "no")
    Traceback (most recent call last):
    ValueError: attend_padding is 'no': it must be True or False
    """
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}: it must be True or False")


def check_dropout(value) -> None:
    """Raise ValueError if a dropout is not in [0, 1).

    Example
    -------
    >>> check_dropout(1)
    Traceback (most recent call last):
    ValueError: dropout is 1: it must be a number of at least 0 and below 1
    """
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"dropout is {value!r}: it must be a number of at least 0 and below 1")


def check_heads(num_heads, width: int) -> None:
    """Raise ValueError if the number of attention heads does not divide a width.

    Example
    -------
    >>> check_heads(3, 16)
    Traceback (most recent call last):
    ValueError: num_heads is 3: it must divide the width of 16
    """
    check_whole("num_heads", num_heads)
    if width % num_heads:
        raise ValueError(f"num_heads is {num_heads}: it must divide the width of {width}")
