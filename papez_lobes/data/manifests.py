"""Manifests of mixtures for SpeechBrain: one format and one inspection, whatever the corpus.

A corpus says which mixtures a split has (`inspection.Mixture`); every file of them is looked at
once, before training. Beside the manifest `<corpus>_<split>.csv` lie `<corpus>_<split>.json`, by
which a folder that has changed since is noticed, and `<corpus>_<split>_problems.txt`, if there are
any.
"""

import csv
import hashlib
import io
import json
import os
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from papez_lobes.data.audio import write_bytes
from papez_lobes.data.inspection import inspect_mixture
from papez_lobes.errors import UserError

SPLITS = ("tr", "cv", "tt")  # training, validation and test; WSJ0-mix's names, for every corpus
SHOWN = 3  # problems of a split on the terminal; the rest is in its file
THREADS = 8  # decoders let go of the interpreter, and disks like several requests at a time


def prepare_manifests(corpus, find, save_folder, num_spks, sample_rate, splits=SPLITS,
                      check_audio=True, leave_out_damaged=False, skip_prep=False):
    """Write the manifest of each split, with only what training can use in it.

    A manifest has the columns ID, duration (seconds, read from the files), mix_wav, s1_wav, ...,
    sC_wav (absolute paths), one line a mixture, sorted by ID. It appears whole or not at all. As
    long as the files keep their names, sizes and times, and the settings stay the same, it is
    used again without opening a file.

    Arguments
    ---------
    corpus : str
        With which the manifests' names begin.
    find : callable
        Split -> list of Mixture; raises UserError where the folder as a whole is wrong.
    save_folder : str or pathlib.Path
        Where the manifests are written.
    num_spks : int
        C, speakers per mixture.
    sample_rate : int
        In Hz, of every file.
    splits : sequence of str
        Which to prepare.
    check_audio : bool
        Decode every file: finds silence, NaN, and what is truncated without its header showing
        it. False reads headers alone. 16,000 mixtures of two speakers at 8 kHz (3.0 GB, in the
        system's cache) took 17 s on two cores, their headers alone 5 s.
    leave_out_damaged : bool
        Leave out the mixtures that cannot be used, and say how many they are.
    skip_prep : bool
        Trust manifests that are there already.

    Returns
    -------
    dict[str, pathlib.Path]
        Split -> manifest.

    Raises
    ------
    UserError
        Mixtures that cannot be used, all of which the splits' `_problems.txt` list with path and
        reason: a file that is missing, truncated, empty, no audio, of another rate, of more than
        one channel, silent, or holds NaN; lengths that differ; a name that manifests cannot hold.
        Or a split without any mixture, a folder that cannot be written to, or, with `skip_prep`,
        a manifest that is not there or is of another number of speakers.

    Example
    -------
    >>> import numpy as np
    >>> from papez_lobes.data.audio import write_audio
    >>> from papez_lobes.data.inspection import Mixture
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
    manifests = {split: Path(save_folder, f"{corpus}_{split}.csv") for split in splits}
    if skip_prep:
        for manifest in manifests.values():
            _check_kept(manifest, num_spks)
        return manifests
    found = {split: _named(find(split)) for split in splits}  # all names first: that is quick
    for split, mixtures in found.items():
        if not mixtures:
            raise UserError(f"{manifests[split].stem}: holds no mixtures; this split is empty")
    check = partial(inspect_mixture, sample_rate=sample_rate, check_audio=check_audio)
    settings = {"num_spks": num_spks, "sample_rate": sample_rate, "check_audio": check_audio,
                "leave_out_damaged": leave_out_damaged}
    refused = {}
    for split, mixtures in found.items():
        problems = _prepare(manifests[split], mixtures, check, settings)
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


def _named(mixtures):
    """The mixtures by name, with a flaw for each name or path that a manifest cannot hold."""
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


def _prepare(manifest, mixtures, check, settings):
    """Make one manifest unless it still holds; returns the problems that prevent it."""
    record, problems_file = manifest.with_suffix(".json"), _problems_file(manifest)
    key = fingerprint(mixtures, settings)
    left_out = _kept(manifest, record, key, mixtures)
    if left_out is not None:
        _say_left_out(manifest, left_out, len(mixtures))
        return []
    if manifest.exists():
        print(f"{manifest}: its files or settings have changed; it is made again")
    # Before the work, so that a folder which cannot be written to shows at once.
    write_bytes(problems_file, b"(not finished)\n")
    rows, problems = [], []
    for mixture, (seconds, found) in zip(mixtures, _each(check, mixtures, manifest.stem)):
        problems += [(_shown(file), reason) for file, reason in found]
        if not found:
            rows.append([mixture.name.strip(), seconds, *mixture.files])
    _list_problems(problems_file, problems)
    if problems and not settings["leave_out_damaged"]:
        manifest.unlink(missing_ok=True)  # nobody should train on what it said before
        return problems
    if not rows:
        raise UserError(f"{problems_file}: lists all {len(mixtures)} mixture(s) of this split; "
                        "mend them, there is nothing left to go on with")
    left_out = len(mixtures) - len(rows)
    content = _csv(rows, settings["num_spks"])
    write_bytes(manifest, content)
    kept = {"fingerprint": key, "manifest": _digest(content), "left_out": left_out, **settings}
    write_bytes(record, f"{json.dumps(kept, indent=2)}\n".encode())
    _say_left_out(manifest, left_out, len(mixtures))
    return []


def _list_problems(path, problems):
    """All of them in the file, which there is only if there are any; the first on the terminal."""
    if not problems:
        path.unlink()
        return
    lines = [f"{file}: {reason}" for file, reason in problems]
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    for line in [*lines[:SHOWN], *(["..."] if len(lines) > SHOWN else [])]:
        print(line, file=sys.stderr)


def _each(check, mixtures, description):
    """`check` of each mixture, in order; in threads, none of which goes on after an error."""
    executor = ThreadPoolExecutor(THREADS)
    try:
        yield from tqdm(executor.map(check, mixtures), f"checking {description}", len(mixtures),
                        unit="mixture", disable=None)
    finally:
        executor.shutdown(cancel_futures=True)


def fingerprint(mixtures, settings):
    """A hash of the names, sizes and times of all files of the mixtures, and of the settings.

    Example
    -------
    >>> from papez_lobes.data.inspection import Mixture
    >>> file = getfixture("tmp_path") / "a.wav"
    >>> before = fingerprint([Mixture("a", (file,))], {})
    >>> _ = file.write_bytes(b"something")
    >>> fingerprint([Mixture("a", (file,))], {}) == before
    False
    """
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for mixture in mixtures:
        digest.update(f"{mixture.name!a} {mixture.frames} {mixture.flaw!a}\n".encode())
        for file in mixture.files[1:] if mixture.summed else mixture.files:
            try:
                status = os.stat(file)
                state = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:
                state = "missing"
            digest.update(os.fsencode(file) + f" {state}\n".encode())
    return digest.hexdigest()


def _kept(manifest, record, key, mixtures):
    """How many mixtures the manifest leaves out, if it is the one of this fingerprint."""
    try:
        kept = json.loads(record.read_bytes())
        content = manifest.read_bytes()
        if kept["fingerprint"] != key or kept["manifest"] != _digest(content):
            return None
        left_out = kept["left_out"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    made = [mixture.files[0].is_file() for mixture in mixtures if mixture.summed]
    return None if made.count(False) > left_out else left_out


def _check_kept(manifest, num_spks):
    try:
        with open(manifest, encoding="utf-8") as file:
            header = file.readline()
    except OSError as error:
        raise UserError(f"{manifest}: no such manifest; run once without skip_prep") from error
    if header != _csv([], num_spks).decode():
        raise UserError(f"{manifest}: is not a manifest of {num_spks} speaker(s); run once "
                        "without skip_prep")


def _csv(rows, num_spks):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    sources = [f"s{number}_wav" for number in range(1, num_spks + 1)]
    writer.writerows([["ID", "duration", "mix_wav", *sources], *rows])
    return text.getvalue().encode()


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _problems_file(manifest):
    return manifest.with_name(f"{manifest.stem}_problems.txt")


def _shown(file):
    """A path as text that can be printed and written, whatever bytes its name holds."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(file))


def _say_left_out(manifest, left_out, total):
    if left_out:
        print(f"{manifest}: {left_out} of {total} mixtures left out, listed in "
              f"{_problems_file(manifest).name}")
