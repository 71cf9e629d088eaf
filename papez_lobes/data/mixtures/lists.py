"""Lists of mixtures in WSJ0-mix's format.

A list is a text file, `mix_<C>_spk_<split>.txt`, with a line for each mixture: `path gain path gain
...`. Paths are below one root. Each source is a whole utterance, and its gain is in dB over a level
that all sources share.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.audio import audio_info
from papez_lobes.data.inspection import try_each
from papez_lobes.data.lookup import find_audio, refuse_second_microphone
from papez_lobes.data.mixtures.plans import MixturePlan, Piece, plan_utterances
from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes


def read_list(path: str | Path) -> list[MixturePlan]:
    """Read a list of mixtures, but not their files; see `unusable_files`.

    Empty lines are ignored. UserError if there is no such list, or if a line (named by its number)
    is malformed, of another number of speakers than the others, names a file of WSJ0's second
    microphone, or gives a mixture the name of another.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot be read ({reason}); name a list of mixtures") from error
    plans, seen = [], {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        plan = _plan(line, f"{path}, line {number}")
        if plan.name in seen:
            raise UserError(f"{path}, line {number}: its mixture has the name of line "
                            f"{seen[plan.name]}'s, {plan.name}; leave one of them out")
        if plans and len(plan.sources) != len(plans[0].sources):
            raise UserError(f"{path}, line {number}: has {len(plan.sources)} speaker(s), the "
                            f"lines before it {len(plans[0].sources)}; make it two lists")
        seen[plan.name] = number
        plans.append(plan)
    if not plans:
        raise UserError(f"{path}: names no mixtures; name a list of `path gain path gain` lines")
    return plans


def _plan(line: str, where: str) -> MixturePlan:
    """Return the plan of a line; `where` begins its error messages."""
    words = line.split()
    paths = words[::2]
    try:
        gains = [float(word) for word in words[1::2]]
    except ValueError:
        gains = []
    if len(gains) != len(paths) or not all(map(math.isfinite, gains)):
        raise UserError(f"{where}: is not `path gain path gain ...` with gains in dB and no "
                        "spaces within paths; correct the list")
    try:
        for path in paths:
            refuse_second_microphone(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return plan_utterances(paths, gains)


def write_list(plans: Iterable[MixturePlan], path: str | Path) -> None:
    """Write plans of whole utterances as a list that `read_list` reads.

    The file appears whole or not at all. UserError if a path holds a space, which a list cannot, or
    if there is another list already.

    Example
    -------
    >>> path = getfixture("tmp_path") / "mix_3_spk_tt.txt"
    >>> write_list([plan_utterances(["a.wav", "b.wav", "c.wav"], [0.60431, -0.60431, 0])], path)
    >>> path.read_text(), [plan.name for plan in read_list(path)]
    ('a.wav 0.60431 b.wav -0.60431 c.wav 0\\n', ['a_0.60431_b_-0.60431_c_0'])
    """
    content = "".join(f"{_line(plan)}\n" for plan in plans).encode()
    if Path(path).exists() and Path(path).read_bytes() != content:
        raise UserError(f"{path}: is there already, with other mixtures; choose a new folder")
    write_bytes(path, content)


def _line(plan: MixturePlan) -> str:
    """Return the line of a plan."""
    words = []
    for source in plan.sources:
        name = source.pieces[0].path
        if source.pieces != (Piece(name),):
            raise ValueError(f"{plan.name}: a list holds whole utterances, not {source.pieces}")
        if len(name.split()) != 1:
            raise UserError(f"{name}: a list cannot hold a path with spaces; rename it")
        words += [name, repr(source.gain_db + 0.0).removesuffix(".0")]
    return " ".join(words)


def unusable_files(plans: Iterable[MixturePlan], root: str | Path) -> list[tuple[str, str]]:
    """Find the files below a root that plans name and that cannot be mixed.

    Only headers are read. Returns (path below the root, reason), sorted by path.
    """
    names = {piece.path for plan in plans for source in plan.sources for piece in source.pieces}
    progress = tqdm(sorted(names), desc="reading headers", unit="file", disable=None)
    _, problems = try_each(lambda name: audio_info(find_audio(root, name)), progress)
    return [(name, reason.partition(": ")[2]) for name, reason in problems]
