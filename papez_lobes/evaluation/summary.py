"""From the rows of an evaluation to its files: CSV, JSON and Markdown."""

import csv
import hashlib
import io
import json
import platform
import re
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from papez_lobes.data.audio import write_bytes
from papez_lobes.errors import UserError
from papez_lobes.evaluation.evaluate import mean_of

PACKAGES = ("papez-lobes", "torch", "speechbrain", "hyperpyyaml", "mir_eval", "pesq", "pystoi")
DRAWS, SEED = 1000, 0  # of the bootstrap
# what is told of a group, in this order, where it was measured: title, digits
SHOWN = {
    "si_snr": ("SI-SNR, dB", 2), "si_snr_i": ("SI-SNRi, dB", 2), "sdr": ("SDR, dB", 2),
    "sdr_i": ("SDRi, dB", 2), "pesq_nb": ("PESQ nb", 2), "pesq_wb": ("PESQ wb", 2),
    "stoi": ("STOI", 3), "mean_depth": ("depth", 2), "rtf": ("RTF", 3),
}


def confidence(values):
    """The 95 % interval of the mean, by a bootstrap of 1000 draws from a seed.

    Example
    -------
    >>> low, high = confidence([1.0, 2.0, 3.0] * 100)
    >>> low < 2.0 < high, high - low < 0.25
    (True, True)
    """
    values = np.asarray(values, float)
    draws = np.random.default_rng(SEED).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def summarise(rows, group_by=None):
    """Means of all rows and of each group.

    Arguments
    ---------
    rows : list of dict
        Of an Evaluation.
    group_by : str, optional
        A regular expression; what it finds in an ID (its groups, joined) names the row's group;
        in quotes, if that is 'all' or 'other' (where nothing is found).

    Returns
    -------
    dict of str to dict
        Group ('all' first) -> `mixtures`, the mean of each measure, `si_snr_i_95` (its interval),
        `failed`: IDs whose estimates are not finite, which all means leave out, and `undefined`:
        measure -> IDs of the others for which it is not defined, which its mean leaves out.

    Raises
    ------
    UserError
        `group_by` is no regular expression.

    Example
    -------
    >>> rows = [{"snt_id": f"{name}_1", "si_snr_i": db} for name, db in (("a", 1.0), ("b", 3.0))]
    >>> {name: group["si_snr_i"] for name, group in summarise(rows, "^.").items()}
    {'all': 2.0, 'a': 1.0, 'b': 3.0}
    """
    groups = {}
    if group_by is not None:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise UserError(f"group-by {group_by!r}: no regular expression ({error})") from error
        for row in rows:
            found = pattern.search(row["snt_id"])
            name = "-".join(found.groups("") or (found[0],)) if found else "other"
            name = f"'{name}'" if found and name in ("all", "other") else name
            groups.setdefault(name, []).append(row)
    return {"all": _means(rows)} | {name: _means(groups[name]) for name in sorted(groups)}


def _means(rows):
    means, undefined = {"mixtures": len(rows)}, {}
    measured = [name for name in SHOWN if any(name in row for row in rows)]
    failed = [row["snt_id"] for row in rows if row.get("failed")]
    rows = [row for row in rows if not row.get("failed")]
    for name in measured:
        # a row without the measure is as one in which it is not defined
        values = {row["snt_id"]: row.get(name, float("nan")) for row in rows}
        good = [value for value in values.values() if np.isfinite(value)]
        means[name] = float(np.mean(good)) if good else None
        bad = [key for key, value in values.items() if not np.isfinite(value)]
        if bad:
            undefined[name] = bad
        if name == "si_snr_i" and good:
            means["si_snr_i_95"] = confidence(good)
    return means | {key: value for key, value in
                    (("failed", failed), ("undefined", undefined)) if value}


def table(groups):
    """The groups as a Markdown table, and a line on each measure whose mean leaves out some."""
    titles = {name: title for name, (title, _) in SHOWN.items() if name in groups["all"]}
    lines = [f"| | mixtures | {' | '.join(titles.values())} |",
             f"| --- | --: | {' | '.join(['--:'] * len(titles))} |"]
    for name, group in groups.items():
        cells = [cell(group, key) for key in titles]
        lines.append(f"| {name} | {group['mixtures']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes(groups))


def notes(groups):
    """A line on estimates that are not finite, and one on each measure that is not defined for
    some mixtures: how many, and the first."""
    total, lines = groups["all"], []
    if "failed" in total:
        lines.append(f"THE MODEL FAILED on {_some(total['failed'])}: its estimates are not finite; "
                     "all means leave these out")
    for name, ids in total.get("undefined", {}).items():
        lines.append(f"{SHOWN[name][0]} is not defined for {_some(ids)}, which its mean leaves out")
    return lines


def _some(ids):
    shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids)} mixture(s) ({shown})"


def cell(group, name):
    """A mean as text, for SI-SNRi with its 95 % interval."""
    if group.get(name) is None:
        return "–"
    text = f"{group[name]:.{SHOWN[name][1]}f}"
    if name == "si_snr_i":
        low, high = group["si_snr_i_95"]
        text += f" ({low:.2f} to {high:.2f})"
    return text


def provenance(bundle=None, **settings):
    """What another needs to repeat an evaluation: versions, a bundle's hash, settings, time, and
    the threads of the model, on which its real-time factor depends."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    about = {"time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
             "versions": versions, "threads": torch.get_num_threads(), **settings}
    if bundle is not None:
        about |= {"bundle": str(bundle), "bundle_sha256": hash_of(bundle)}
    return about


def hash_of(folder):
    """SHA-256 of the names and contents of a bundle's files (`hyperparams.yaml` and `.ckpt`)."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.suffix in (".yaml", ".ckpt"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def write_rows(rows, path):
    """Write a CSV, a line a mixture and last their means (snt_id 'avg')."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    average = {"snt_id": "avg"} | {
        name: mean_of(rows, name) for name in names[1:] if name != "failed"
    }
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=names)
    writer.writeheader()
    writer.writerows([*rows, average])
    write_bytes(path, stream.getvalue().encode())


def write_summary(groups, about, path):
    """Write the means and how they came about as JSON."""
    content = {"results": groups, **about}
    write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
