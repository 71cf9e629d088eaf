"""Recordings to separate, as files, folders and patterns name them, and the names of estimates."""

import glob
import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from papez_lobes.data.containers import AUDIO_SUFFIXES
from papez_lobes.data.lookup import audio_files, readable_suffixes, report_passed_over
from papez_lobes.errors import UserError
from papez_lobes.inference.remote import STANDARD_INPUT, fetched, is_url, list_files

TEMPLATE = "{track}_s{speaker}.{ext}"  # of the names of estimates
FIELDS = {"track", "speaker", "ext"}
LIST_SUFFIX = ".txt"  # of a text file that names recordings


@dataclass(frozen=True)
class Recording:
    """A recording, and what its estimates are called."""

    source: str  # path of the file, its URL, or "-" for standard input
    track: str  # the beginning of the names of its estimates, relative to the output folder


def find_recordings(inputs: Sequence[str | Path]) -> list[Recording]:
    """Find the recordings that files, folders, patterns and lists name.

    Files, folders and lists may be URLs of any file system that fsspec knows.

    A file's track is its name without the suffix. A folder's recordings keep their place in the
    folder, a pattern's their place below the part without wildcards. Where two recordings would
    have one track, those that come from different folders get the folder's name before it, and
    those of one folder keep their suffix.

    Arguments
    ---------
    inputs : sequence of str or pathlib.Path
        Files, folders, patterns with `*`, `?`, `[...]` or `**`, "-" for standard input, or lists:
        text files (.txt) with a line for each of these.

    Returns
    -------
    list of Recording
        In the order of the inputs, each file once.

    Raises
    ------
    UserError
        A folder or a pattern has no audio files. Missing files are found later, when they are
        read.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("a/talk.wav", "b/talk.wav", "b/talk.flac", "b/other.wav"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> files = [folder / "a/talk.wav", folder / "b/talk.wav", folder / "b/other.wav"]
    >>> [recording.track for recording in find_recordings(files)]
    ['a/talk', 'b/talk', 'other']
    >>> [recording.track for recording in find_recordings([folder])]
    ['a/talk', 'b/other', 'b/talk.flac', 'b/talk.wav']
    """
    found = {}  # absolute path -> the source as it was named, and its place
    for name in _with_lists(inputs):
        for source, place in _expand(name):
            stays = source == STANDARD_INPUT or is_url(source)
            found.setdefault(source if stays else os.path.abspath(source), (source, place))
    tracks = _unique_tracks({path: place for path, (_, place) in found.items()})
    return [Recording(source, tracks[path]) for path, (source, _) in found.items()]


def _with_lists(inputs):
    """The inputs, with what a list names in the place of the list."""
    for name in map(str, inputs):
        if not name.lower().endswith(LIST_SUFFIX):
            yield name
            continue
        with fetched(name) as path:
            try:
                lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{name}: cannot be read as a list ({error})") from error
        lines = [line.strip() for line in lines if line.strip()]
        if not lines:
            raise UserError(f"{name}: names no recordings; write one a line")
        yield from lines


def _expand(name):
    """Files of one input, each with its place below the output folder."""
    if name == STANDARD_INPUT:
        return [(name, PurePosixPath("stdin.wav"))]
    if is_url(name):
        return _expand_url(name)
    path = Path(name).expanduser()
    if path.is_dir():
        files, others = audio_files(path)
        report_passed_over(path, others)
        if not files:
            raise UserError(f"{name}: no audio files in this folder; name another")
        return [(str(file), PurePosixPath(file.relative_to(path).as_posix())) for file in files]
    if not os.path.lexists(path) and glob.has_magic(name):
        files = sorted(filter(os.path.isfile, glob.glob(str(path), recursive=True)))
        if not files:
            raise UserError(f"{name}: no files match this pattern")
        fixed = list(path.parts[:-1])
        while any(glob.has_magic(part) for part in fixed):
            fixed.pop()
        root = Path(*fixed) if fixed else Path()
        return [(file, PurePosixPath(Path(file).relative_to(root).as_posix())) for file in files]
    return [(str(path), PurePosixPath(path.name))]


def _expand_url(url):
    """Files of one URL. What has the suffix of audio is a file, without asking its system."""
    if PurePosixPath(url).suffix.lower() in AUDIO_SUFFIXES:
        return [(url, PurePosixPath(PurePosixPath(url).name))]
    files = []
    for file in list_files(url):
        place = PurePosixPath(file.removeprefix(url.rstrip("/") + "/"))
        hidden = any(part.startswith(".") for part in place.parts)
        if place.suffix.lower() in readable_suffixes() and not hidden:
            files.append((file, place))
    if not files:
        raise UserError(f"{url}: no audio files in this folder; name another")
    return files


def _unique_tracks(places):
    """File -> track. Two files never have the same track, ignoring case as some systems do."""
    tracks = {key: place.with_suffix("") for key, place in places.items()}
    for group in _of_one_track(tracks):
        parents = {key: Path(key).parent.parts[1:] for key in group}  # without the root
        count = len(set(parents.values()))
        depth = min(1, count - 1)
        while count > 1 and len({parts[-depth:] for parts in parents.values()}) < count:
            depth += 1
        for key in group if depth else ():
            tracks[key] = PurePosixPath(*parents[key][-depth:], tracks[key])
    for group in _of_one_track(tracks):
        for key in group:
            tracks[key] = tracks[key].parent / places[key].name  # with its suffix
    return {key: str(track) for key, track in tracks.items()}


def _of_one_track(tracks):
    """Groups of files that share a track."""
    groups = {}
    for key, track in tracks.items():
        groups.setdefault(str(track).lower(), []).append(key)
    return [group for group in groups.values() if len(group) > 1]


def estimate_paths(
    out: str | Path, track: str, num_speakers: int, template: str = TEMPLATE, ext: str = "wav",
    residual: bool = False,
) -> list[Path]:
    """The files in a folder that a recording's estimates are written to.

    The template is the name of a file, with the fields {track}, {speaker} and {ext}, which is the
    suffix without a dot. With `residual` there is one more file, with "residual" in the place of
    "s{speaker}".

    Raises
    ------
    UserError
        The template has other fields, lacks {speaker}, or leaves the folder.

    Example
    -------
    >>> [path.as_posix() for path in estimate_paths("out", "a/talk", 2, residual=True)]
    ['out/a/talk_s1.wav', 'out/a/talk_s2.wav', 'out/a/talk_residual.wav']
    """
    _check_template(template)
    names = [template.format(track=track, speaker=n + 1, ext=ext) for n in range(num_speakers)]
    if residual:
        field = "s{speaker}" if "s{speaker}" in template else "{speaker}"
        names.append(template.replace(field, "residual").format(track=track, ext=ext, speaker=""))
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"--filename {template}: {name} lies outside the output folder")
    return [Path(out, name) for name in names]


def _check_template(template):
    """Refuse a template that cannot be filled in, or gives all speakers one name."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UserError(f"--filename {template}: {error}") from error
    if not fields <= FIELDS or "speaker" not in fields:
        raise UserError(
            f"--filename {template}: it takes {{track}}, {{speaker}} and {{ext}}, and needs "
            "{speaker}"
        )
