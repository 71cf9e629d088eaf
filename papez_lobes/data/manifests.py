"""Manifests of mixtures for SpeechBrain, in one format for all corpora.

A corpus lists the mixtures of a split (`inspection.Mixture`), and every file of them is inspected
once, before training. Beside the manifest `<corpus>_<split>.csv` lie `<corpus>_<split>.json`, which
records of which files and settings it was made, and, if there are problems,
`<corpus>_<split>_problems.txt`.
"""

import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.folders import check_choice, source_names
from papez_lobes.data.inspection import Inspection, Mixture, inspect_mixture
from papez_lobes.errors import UserError
from papez_lobes.files import fingerprint, has_content, write_bytes

SPLITS = ("tr", "cv", "tt")  # training, validation and test; WSJ0-mix's names, for every corpus
SHOWN = 3  # problems of a split on the terminal; all are in its file
THREADS = 8  # decoders release the interpreter's lock, and disks like several requests at a time
CHECKS_OF_SUMS = ("warn", "error", "off")
SUMS_CHECKED = 50  # mixtures of a split, where not all are decoded anyway


def prepare_manifests(
    corpus: str, find: Callable[[str], list[Mixture]], save_folder: str | Path, num_spks: int,
    sample_rate: int, about: dict[str, str | int | bool] | None = None,
    splits: Sequence[str] = SPLITS, check_audio: bool = True, check_sums: str | bool = "warn",
    leave_out_damaged: bool = False, skip_prep: bool = False,
) -> dict[str, Path]:
    """Write the manifest of each split, after inspecting every file.

    A manifest has the columns ID, duration (seconds, read from the files), mix_wav, s1_wav, ...,
    sC_wav (absolute paths), one line a mixture, sorted by ID. It appears whole or not at all. As
    long as the files keep their names, sizes and times, and the settings stay the same, it is used
    again without opening a file.

    Arguments
    ---------
    corpus : str
        Beginning of the manifests' names.
    find : callable
        Returns the mixtures of a split; raises UserError if the folder as a whole is wrong.
    save_folder : str or pathlib.Path
        Folder for the manifests.
    num_spks, sample_rate : int
        C, speakers per mixture, and the rate in Hz of every file.
    about : dict, optional
        Options of the corpus by name, such as `data_folder`. They are recorded, and with
        `skip_prep` a manifest that was made with others is refused.
    splits : sequence of str
        Splits to prepare.
    check_audio : bool
        True: decode every file, which finds silence, NaN, and truncation that headers do not show.
        False: read the headers alone. 16,000 mixtures of two speakers at 8 kHz (3.0 GB, in the
        system's cache) took 17 s on two cores, their headers alone 5 s.
    check_sums : "warn", "error" or "off"
        Compare mixtures with the sums of their sources, which finds swapped and wrongly scaled
        sources: all mixtures that are decoded anyway, or 50 of each split with `check_audio` False.
        They may differ by two steps of 16 bit, or by C steps if that is more. "warn" prints a line
        that names the worst, "error" makes the mixture unusable.
    leave_out_damaged : bool
        True: leave out the mixtures that cannot be used, and print how many they are.
    skip_prep : bool
        True: use the manifests that are there already.

    Returns
    -------
    dict[str, pathlib.Path]
        Split -> manifest.

    Raises
    ------
    UserError
        Some mixtures cannot be used. The splits' `_problems.txt` list each file with the reason: it
        is missing, truncated, empty, no audio, of another rate, of more than one channel, silent,
        or holds NaN; lengths differ; or a manifest cannot hold the name. Or a split has no
        mixtures, a folder cannot be written to, or, with `skip_prep`, a manifest is not there, is
        empty, or was made with other options.

    Example
    -------
    >>> import numpy as np
    >>> from papez_lobes.data.audio import write_audio
    >>> folder = getfixture("tmp_path")
    >>> files = tuple(folder / part / "a.wav" for part in ("mix", "s1"))
    >>> for file in files:
    ...     write_audio(file, np.full(4000, 0.5), 8000)
    >>> manifests = prepare_manifests("mine", lambda split: [Mixture("a", files)], folder,
    ...                               num_spks=1, sample_rate=8000, splits=["tr"])
    >>> print(manifests["tr"].read_text().replace(str(folder), "..."), end="")
    ID,duration,mix_wav,s1_wav
    a,0.5,.../mix/a.wav,.../s1/a.wav
    """
    check_sums = "off" if check_sums is False else check_sums  # YAML's reading of off
    check_choice("check_sums", check_sums, CHECKS_OF_SUMS)
    manifests = {split: Path(save_folder, f"{corpus}_{split}.csv") for split in splits}
    settings = {"num_spks": num_spks, "sample_rate": sample_rate, **(about or {})}
    if skip_prep:
        for manifest in manifests.values():
            _check_kept(manifest, settings)
        return manifests
    settings |= {"check_audio": check_audio, "check_sums": check_sums,
                 "leave_out_damaged": leave_out_damaged}
    # The names of all splits first, which is quick.
    found = {split: _check_names(find(split)) for split in splits}
    for split, mixtures in found.items():
        if not mixtures:
            raise UserError(f"{manifests[split].stem}: holds no mixtures; this split is empty, "
                            "fill it or choose another data_folder")
    refused = {}
    for split, mixtures in found.items():
        problems = _prepare(manifests[split], mixtures, settings)
        if problems:
            refused[_problems_file(manifests[split])] = problems
    if refused:
        path, reason = next(iter(refused.values()))[0]
        raise UserError(
            f"{', '.join(map(str, refused))}: lists {sum(map(len, refused.values()))} problem(s) "
            f"that training would meet ({path}: {reason}); mend them, or go on without these "
            "mixtures by leave_out_damaged: True"
        )
    return manifests


def _check_names(mixtures: list[Mixture]) -> list[Mixture]:
    """Sort by name, and add a flaw where a manifest cannot hold the name or a path."""
    counts = Counter(mixture.name.strip() for mixture in mixtures)
    checked = []
    for mixture in sorted(mixtures, key=lambda mixture: mixture.name):
        text = "".join([mixture.name, *map(str, mixture.files)])
        flaw = mixture.flaw
        if re.search(r"\$[\w.]", text):  # SpeechBrain would take it for a variable
            flaw = "manifests cannot hold a name with a $ in it; rename it"
        elif text != text.encode(errors="replace").decode():
            flaw = "manifests cannot hold a name that is not UTF-8; rename it"
        elif counts[mixture.name.strip()] > 1:
            flaw = "is there more than once under this name; keep one of them"
        checked.append(replace(mixture, flaw=flaw))
    return checked


def _prepare(manifest: Path, mixtures: list[Mixture], settings: dict) -> list[tuple[str, str]]:
    """Make one manifest unless it is up to date. Returns the problems that prevent it."""
    record_file, problems_file = manifest.with_suffix(".json"), _problems_file(manifest)
    # what the corpus states about the mixtures, and the files' states
    stated = [[mixture.name, mixture.frames, mixture.flaw] for mixture in mixtures]
    files = [file for mixture in mixtures
             for file in (mixture.files[1:] if mixture.summed else mixture.files)]
    key = fingerprint([settings, stated], files)
    kept = _read_record(manifest, key, mixtures)
    if kept is not None:
        for note in kept["notes"]:
            print(note)
        return []
    if manifest.exists():
        print(f"{manifest}: its files or settings have changed; it is made again")
    # Before the work, so that a folder which cannot be written to shows at once.
    write_bytes(problems_file, b"(not finished)\n")
    rows, problems, sum_errors = [], [], {}
    for mixture, inspection in zip(mixtures, _inspect(mixtures, settings, manifest.stem)):
        found = list(inspection.problems)
        if inspection.sum_error:
            sum_errors[_printable(mixture.files[0])] = inspection.sum_error
            if settings["check_sums"] == "error":
                found.append((mixture.files[0], "is not the sum of its sources (off by up to "
                              f"{inspection.sum_error:.2g} of full scale); make it again"))
        problems += [(_printable(file), reason) for file, reason in found]
        if not found:
            rows.append([mixture.name.strip(), inspection.seconds, *mixture.files])
    _list_problems(problems_file, problems)
    if problems and not settings["leave_out_damaged"]:
        manifest.unlink(missing_ok=True)  # nobody should train on what it said before
        return problems
    if not rows:
        raise UserError(f"{problems_file}: lists all {len(mixtures)} mixture(s) of this split; "
                        "mend them, there is nothing left to go on with")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_columns(settings["num_spks"]), *rows])
    write_bytes(manifest, text.getvalue().encode())
    record = {"fingerprint": key, "manifest": fingerprint(text.getvalue(), ()),
              "left_out": len(mixtures) - len(rows), "notes": [], **settings}
    if record["left_out"]:
        record["notes"].append(f"{manifest}: {record['left_out']} of {len(mixtures)} mixtures left "
                               f"out, listed in {problems_file.name}")
    if sum_errors and settings["check_sums"] == "warn":
        worst = max(sum_errors, key=sum_errors.get)
        record["notes"].append(
            f"{manifest}: {len(sum_errors)} mixture(s) are not the sum of their sources; the worst "
            f"is {worst}, off by up to {sum_errors[worst]:.2g} of full scale. Check its sources, "
            "or, if they are meant to hold more, set check_sums: off")
    write_bytes(record_file, f"{json.dumps(record, indent=2)}\n".encode())
    for note in record["notes"]:
        print(note)
    return []


def _inspect(mixtures: list[Mixture], settings: dict, description: str) -> Iterator[Inspection]:
    """Inspect mixtures in threads, which all stop at an error; results are in order."""
    every = 1 if settings["check_audio"] else -(-len(mixtures) // SUMS_CHECKED)
    compare = settings["check_sums"] != "off"
    check_sum = [compare and number % every == 0 for number in range(len(mixtures))]
    executor = ThreadPoolExecutor(THREADS)
    try:
        results = executor.map(inspect_mixture, mixtures, repeat(settings["sample_rate"]),
                               repeat(settings["check_audio"]), check_sum)
        yield from tqdm(results, f"checking {description}", len(mixtures), unit="mixture",
                        disable=None)
    finally:
        executor.shutdown(cancel_futures=True)


def _list_problems(path: Path, problems: list[tuple[str, str]]) -> None:
    """List all problems in a file, which exists only if there are any, and print the first."""
    if not problems:
        path.unlink()
        return
    lines = [f"{file}: {reason}" for file, reason in problems]
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    for line in lines[:SHOWN]:
        print(line, file=sys.stderr)
    if len(lines) > SHOWN:
        print("...", file=sys.stderr)


def _read_record(manifest: Path, key: str, mixtures: list[Mixture]) -> dict | None:
    """Read the record of a manifest; None unless it has this fingerprint."""
    try:
        record = json.loads(manifest.with_suffix(".json").read_bytes())
        content = manifest.read_bytes().decode()
        if record["fingerprint"] != key or record["manifest"] != fingerprint(content, ()):
            return None
        # Sums are written without a sync: a power cut can leave empty files.
        missing = [mixture for mixture in mixtures
                   if mixture.summed and not has_content(mixture.files[0])]
        return None if len(missing) > record["left_out"] else record
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_kept(manifest: Path, settings: dict) -> None:
    """Refuse a manifest that is not there, holds nothing, or is of other settings."""
    def refusal(reason):
        return UserError(f"{manifest}: {reason}; run once without skip_prep")

    try:
        with open(manifest, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except OSError as error:
        raise refusal("no such manifest") from error
    except (ValueError, csv.Error) as error:
        raise refusal("is not a manifest") from error
    if header != _columns(settings["num_spks"]):
        raise refusal(f"is not a manifest of {settings['num_spks']} speaker(s)")
    if not rows:
        raise refusal("holds no mixtures, only a header")
    for number, row in enumerate(rows, start=2):
        with suppress(ValueError):
            if len(row) == len(header) and math.isfinite(float(row[1])):
                continue
        raise refusal(f"is damaged in line {number}")
    try:
        record = json.loads(manifest.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return  # a manifest that the user wrote
    for name, value in settings.items():
        if record.get(name, value) != value:
            raise refusal(f"was made with {name} {record[name]}, not {value}")


def _columns(num_spks: int) -> list[str]:
    """Return the header of a manifest."""
    return ["ID", "duration", "mix_wav", *(f"{name}_wav" for name in source_names(num_spks))]


def _problems_file(manifest: Path) -> Path:
    """Return the file that lists the problems of a split."""
    return manifest.with_name(f"{manifest.stem}_problems.txt")


def _printable(file: Path) -> str:
    """Return a path as text that can be printed, whatever bytes its name holds."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(file))
