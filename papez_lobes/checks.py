"""What a knob may be: errors that name its key in the YAML file."""

import math
from numbers import Integral, Real


def check_whole(key, value, least=1):
    """Raises ValueError if a knob is not a whole number of at least `least`.

    Example
    -------
    >>> check_whole("num_steps", "eight")
    Traceback (most recent call last):
    ValueError: num_steps is 'eight': it must be a whole number of at least 1
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{key} is {value!r}: it must be a whole number of at least {least}")


def check_number(key, value):
    """Raises ValueError if a knob is not a finite number.

    Example
    -------
    >>> check_number("halting_bias", float("nan"))
    Traceback (most recent call last):
    ValueError: halting_bias is nan: it must be a finite number
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}: it must be a finite number")


def check_flag(key, value):
    """Raises ValueError if a knob is not True or False: YAML 1.2 takes yes and no for text, and
    any text is true.

    Example
    -------
    >>> check_flag("attend_padding", "no")
    Traceback (most recent call last):
    ValueError: attend_padding is 'no': it must be True or False
    """
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}: it must be True or False")
