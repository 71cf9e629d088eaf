"""The one exception that stands for a mistake of the user's."""


class UserError(Exception):
    """What a user can mend: says in one line what was wrong, where, and what to do.

    Command lines print its message and exit with status 2, without a traceback. The lobes
    themselves raise `ValueError`, naming the YAML key, since they may be used without us.

    Example
    -------
    >>> raise UserError("mix.wav: no such file; name an audio file")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: mix.wav: no such file; name an audio file
    """
