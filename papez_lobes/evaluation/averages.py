"""Averages of an evaluation, over all mixtures and over groups of them, and their table."""

import re
from statistics import fmean

import numpy as np

from papez_lobes.errors import UserError
from papez_lobes.tables import format_number, markdown_table

BOOTSTRAP_DRAWS, SEED = 1000, 0
# Columns of the table, where they were measured: name in the rows -> title, digits.
COLUMNS = {
    "si_snr": ("SI-SNR, dB", 2), "si_snr_i": ("SI-SNRi, dB", 2), "leakage": ("leakage, dB", 1),
    "sdr": ("SDR, dB", 2), "sdr_i": ("SDRi, dB", 2), "pesq_nb": ("PESQ nb", 2),
    "pesq_wb": ("PESQ wb", 2), "stoi": ("STOI", 3), "mean_depth": ("depth", 2), "rtf": ("RTF", 3),
}
IMPROVEMENTS = ("si_snr_i", "sdr_i")  # and, of single sources, si_snr_i_s1, ...
# Keys of rows that are marks rather than measures -> what the table says of the mixtures.
MARKS = {
    "failed": "THE MODEL FAILED on {}: its estimates are not finite; all means leave these out",
    "silent": "A source is silent in {}: the measures of these are means over the others",
    "alone": "One speaker alone is heard in {}: the mixture is the source already, and means of "
             "SI-SNRi and SDRi leave these out where there are others",
}


def confidence_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of a mean, by a bootstrap of 1000 draws with a fixed seed.

    Example
    -------
    >>> low, high = confidence_interval([1.0, 2.0, 3.0] * 100)
    >>> low < 2.0 < high, high - low < 0.25
    (True, True)
    """
    values = np.asarray(values, float)
    draws = np.random.default_rng(SEED).integers(len(values), size=(BOOTSTRAP_DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def counted(rows: list[dict], name: str) -> list[dict]:
    """The rows that the mean of a measure is over, where it is defined in them.

    Failed mixtures are left out. Improvements leave out mixtures of one speaker alone, unless there
    are no others.
    """
    rows = [row for row in rows if not row.get("failed")]
    if name.startswith(IMPROVEMENTS):
        rows = [row for row in rows if not row.get("alone")] or rows
    return rows


def finite_values(rows: list[dict], name: str) -> list[float]:
    """The values of a measure that its mean is over."""
    values = [row.get(name, np.nan) for row in counted(rows, name)]
    return [value for value in values if np.isfinite(value)]


def mean_of(rows: list[dict], name: str) -> float:
    """Mean of a measure over the mixtures that count and define it; NaN if there are none."""
    values = finite_values(rows, name)
    return fmean(values) if values else float("nan")


def summarise(rows: list[dict], group_by: str | None = None) -> dict[str, dict]:
    """Average all rows of an Evaluation, and each group of rows.

    A row's group is named by the part of its ID that the regular expression `group_by` matches (or
    by the match's groups, joined by '-'), and 'other' if nothing matches. A group that would be
    called 'all' or 'other' gets quotes. UserError if it is no regular expression.

    Returns
    -------
    dict of str to dict
        Group ('all' first) -> `mixtures` (their number); the mean of each measure, None if it is
        not defined; `si_snr_i_95` (the confidence interval); `failed`, `silent`, `alone`: IDs of
        the mixtures that are marked so (see `papez_lobes.evaluation.evaluate.Evaluation`);
        `undefined`: measure -> IDs of other mixtures for which it is not defined, which its mean
        leaves out. Leakage is left out of these: in many mixtures nobody speaks alone.

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
            name, found = "other", pattern.search(row["snt_id"])
            if found:
                name = "-".join(found.groups("") or (found[0],))
                name = f"'{name}'" if name in ("all", "other") else name
            groups.setdefault(name, []).append(row)
    return {"all": _average(rows)} | {name: _average(groups[name]) for name in sorted(groups)}


def _average(rows):
    means, undefined = {"mixtures": len(rows)}, {}
    for name in COLUMNS:
        if not any(name in row for row in rows):
            continue
        values = finite_values(rows, name)
        means[name] = fmean(values) if values else None
        if name == "si_snr_i" and values:
            means["si_snr_i_95"] = confidence_interval(values)
        missing = [row["snt_id"] for row in counted(rows, name)
                   if not np.isfinite(row.get(name, np.nan))]
        if missing and name != "leakage":
            undefined[name] = missing
    marked = {mark: [row["snt_id"] for row in rows if row.get(mark)] for mark in MARKS}
    means |= {mark: names for mark, names in marked.items() if names}
    return means | ({"undefined": undefined} if undefined else {})


def cells(groups: dict[str, dict]) -> list[list[str]]:
    """The cells of the table as text: titles, then a row for each group of `summarise`."""
    shown = [name for name in COLUMNS if name in groups["all"]]
    lines = [["", "mixtures", *(COLUMNS[name][0] for name in shown)]]
    for group, means in groups.items():
        lines.append([group, str(means["mixtures"]), *(_cell(means, name) for name in shown)])
    return lines


def table(groups: dict[str, dict]) -> str:
    """The groups of `summarise` as a Markdown table, followed by `notes`."""
    head, *lines = cells(groups)
    return markdown_table(head, lines) + "".join(f"\n{note}\n" for note in notes(groups))


def notes(groups: dict[str, dict]) -> list[str]:
    """Sentences about marked mixtures and those that means leave out: how many, the first IDs."""
    total = groups["all"]
    lines = [text.format(_count(total[mark])) for mark, text in MARKS.items() if mark in total]
    for name, ids in total.get("undefined", {}).items():
        lines.append(f"{COLUMNS[name][0]} is not defined for {_count(ids)}, which its mean "
                     "leaves out")
    return lines


def _count(ids):
    shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids)} mixture(s) ({shown})"


def _cell(means, name):
    """A mean as text; SI-SNRi with its confidence interval."""
    text = format_number(means.get(name), COLUMNS[name][1])
    if name == "si_snr_i" and "si_snr_i_95" in means:
        low, high = means["si_snr_i_95"]
        text += f" ({low:.2f} to {high:.2f})"
    return text
