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


def check_dropout(value):
    """Raises ValueError if a dropout is not in [0, 1).

    Example
    -------
    >>> check_dropout(1)
    Traceback (most recent call last):
    ValueError: dropout is 1: it must be in [0, 1)
    """
    check_number("dropout", value)
    if not 0 <= value < 1:
        raise ValueError(f"dropout is {value}: it must be in [0, 1)")


def check_heads(num_heads, width):
    """Raises ValueError if attention heads do not divide a width.

    Example
    -------
    >>> check_heads(3, 16)
    Traceback (most recent call last):
    ValueError: num_heads is 3: it must divide the width of 16
    """
    check_whole("num_heads", num_heads)
    if width % num_heads:
        raise ValueError(f"num_heads is {num_heads}: it must divide the width of {width}")


# The least that the knobs of SpeechBrain's separators may be: its modules fail in use only, or
# build networks without layers. Papez's classes check theirs themselves.
LEAST = dict.fromkeys((
    "num_spks", "sample_rate", "N_encoder_out", "kernel_size", "bottleneck_dim", "hidden_dim",
    "num_blocks", "num_repeats", "rnn_dim", "ffn_dim", "intra_layers", "inter_layers",
    "segment_layers", "memory_layers", "segment_tokens",
), 1) | {"chunk_tokens": 2, "conv_kernel": 3}


def check_knobs(knobs):
    """Raises ValueError for the first knob of a separator file that is out of its range.

    Example
    -------
    >>> check_knobs({"num_repeats": 0})
    Traceback (most recent call last):
    ValueError: num_repeats is 0: it must be a whole number of at least 1
    """
    for key, least in LEAST.items():
        if key in knobs:
            check_whole(key, knobs[key], least)
    if "dropout" in knobs:
        check_dropout(knobs["dropout"])
    width = knobs.get("bottleneck_dim", knobs.get("N_encoder_out"))
    if "num_heads" in knobs and width is not None:
        check_heads(knobs["num_heads"], width)
