"""Audio files by their names: which files of a folder are audio, and where a listed file lies."""

import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from papez_lobes.data.containers import AUDIO_SUFFIXES, SNDFILE_SUFFIXES
from papez_lobes.errors import UserError

# WSJ0 was recorded by two microphones at once; mixtures are made of the first one's files.
SECOND_MICROPHONE = re.compile(r"\.wv2(\.|$)", re.IGNORECASE)
NAMED_SUFFIXES = 4  # that a line about passed-over files names


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of audio files that can be read here, with or without ffmpeg."""
    return AUDIO_SUFFIXES if shutil.which("ffmpeg") else SNDFILE_SUFFIXES


def audio_files(folder: str | Path, deep: bool = True) -> tuple[list[Path], list[Path]]:
    """List the audio files of a folder, and the other files in it, as sorted paths.

    Audio files are those with `readable_suffixes`. Subfolders are searched if `deep`; otherwise
    they count as other files. Hidden files and folders are ignored, and links to folders are not
    followed. UserError if a folder cannot be read.
    """
    def refuse(error):
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); check its "
                        "permissions")

    audio, others, suffixes = [], [], readable_suffixes()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not deep:
            others += [Path(parent, name) for name in folders]
            folders.clear()
        for name in names:
            if not name.startswith("."):
                path = Path(parent, name)
                (audio if path.suffix.lower() in suffixes else others).append(path)
    return sorted(audio), sorted(others)


def report_passed_over(folder: str | Path, paths: list[Path]) -> None:
    """Print one line to stderr about the files of a folder that are not used, if there are any."""
    if not paths:
        return
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths).most_common()
    kinds = [f"{count} {suffix}" for suffix, count in counts[:NAMED_SUFFIXES]]
    if len(counts) > NAMED_SUFFIXES:
        kinds.append("others")
    example = Path(os.path.relpath(paths[0], folder)).as_posix()
    print(f"{folder}: passed over {len(paths)} file(s): {', '.join(kinds)}, such as {example}",
          file=sys.stderr)


def find_audio(root: str | Path, listed: str) -> Path:
    """Find the file that a list names below a root, whichever audio suffix it has on disk.

    WSJ0-mix's lists say `wsj0/si_et_05/445/445c0206.wav`; the distributed file ends in `.wv1`, and
    others keep it as `.flac`. A file of exactly the listed name comes first. UserError if there is
    none, or only the second microphone's (`.wv2`).
    """
    path = Path(root, listed)
    refuse_second_microphone(path)
    if path.is_file():
        return path
    stem = path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    for suffix in (*readable_suffixes(), ".wv2"):
        for candidate in (path.parent / (stem + suffix), path.parent / (stem + suffix.upper())):
            if candidate.is_file():
                refuse_second_microphone(candidate)
                return candidate
    raise UserError(f"{path}: no such file (nor with another suffix of audio)")


def refuse_second_microphone(path: str | Path) -> None:
    """Raise UserError for a file of WSJ0's second microphone."""
    path = Path(path)
    if SECOND_MICROPHONE.search(path.name):
        first = SECOND_MICROPHONE.sub(r".wv1\1", path.name)
        raise UserError(f"{path}: is WSJ0's second microphone, which costs 1 to 2 dB of "
                        f"separation; take the first one's file, {first}")
