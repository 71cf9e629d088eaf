"""Which files are audio, and where a file lies that a list names."""

import re
from pathlib import Path

from papez_lobes.errors import UserError

AUDIO_SUFFIXES = (".wav", ".wv1", ".flac", ".ogg", ".opus", ".mp3", ".gsm")
# WSJ0 was recorded by two microphones at once; mixtures are made of the first one's files.
SECOND_MICROPHONE = re.compile(r"\.wv2(\.|$)", re.IGNORECASE)


def find_audio(root, listed):
    """The file that a list names, whichever audio suffix it has on disk.

    WSJ0-mix's lists say `wsj0/si_et_05/445/445c0206.wav`; the distributed file ends in `.wv1`, and
    others keep it as `.flac`. The name as it is listed comes first.

    Arguments
    ---------
    root : str or pathlib.Path
        The folder that listed paths are below.
    listed : str
        The path in the list.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    UserError
        There is no such file, or only the second microphone's (`.wv2`).

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "445c0206.wv1").touch()
    >>> find_audio(root, "445c0206.wav").name
    '445c0206.wv1'
    """
    path = Path(root, listed)
    refuse_second_microphone(path)
    if path.is_file():
        return path
    stem = path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    for suffix in AUDIO_SUFFIXES:
        for candidate in (path.with_name(stem + suffix), path.with_name(stem + suffix.upper())):
            if candidate.is_file():
                return candidate
    for second in (path.with_name(stem + ".wv2"), path.with_name(stem + ".WV2")):
        if second.exists():
            refuse_second_microphone(second)
    raise UserError(f"{path}: no such file (nor with another of the suffixes "
                    f"{', '.join(AUDIO_SUFFIXES)})")


def refuse_second_microphone(path):
    """Raise UserError for a file of WSJ0's second microphone.

    Example
    -------
    >>> refuse_second_microphone("445c0206.wv2")
    Traceback (most recent call last):
    papez_lobes.errors.UserError: 445c0206.wv2: is WSJ0's second microphone, which costs 1 to 2 dB \
of separation; take the first one's file, 445c0206.wv1
    """
    path = Path(path)
    if SECOND_MICROPHONE.search(path.name):
        first = SECOND_MICROPHONE.sub(r".wv1\1", path.name)
        raise UserError(f"{path}: is WSJ0's second microphone, which costs 1 to 2 dB of "
                        f"separation; take the first one's file, {first}")
