"""Markdown tables and a figure of a comparison."""

import math
from collections.abc import Iterable

from matplotlib.figure import Figure

from papez_lobes.evaluation.pictures import png_bytes
from papez_lobes.tables import markdown_table

REFERENCE_SECONDS = 4  # the length whose depth and operations are shown, if measured
_GROUP = ("task", "dtype", "threads", "device")


def comparison_tables(results: list[dict]) -> str:
    """Tables of speed, one for each task, dtype, device and number of threads, and of memory.

    Arguments
    ---------
    results : list of dict
        Of `papez_lobes.profiling.comparison.Comparison`.

    Returns
    -------
    str
        Markdown.
    """
    parts = []
    for group in _unique(tuple(row[key] for key in _GROUP) for row in results):
        rows = [row for row in results if tuple(row[key] for key in _GROUP) == group]
        task, dtype, threads, device = group
        where = f"{dtype}, {device}" + (f", threads {threads}" if device == "cpu" else "")
        if task == "separate":
            parts.append(f"\n### Separating: {where}\n\n" + _speed_table(rows))
        else:
            seconds = rows[0]["seconds"]
            parts.append(f"\n### Training step of {seconds:g} s: {where}\n\n" + _train_table(rows))
    for dtype in _unique(row["dtype"] for row in results):
        rows = [row for row in results if row["dtype"] == dtype and row["peak_bytes"] is not None]
        if rows:
            parts.append(f"\n### Peak memory of a separation: {dtype}\n\n" + _memory_table(rows))
    return "".join(parts)


def draw_speed(results: list[dict]) -> bytes:
    """Draw the real-time factor against the length of the recording.

    Arguments
    ---------
    results : list of dict
        As `comparison_tables`. Those with the largest number of threads are shown.

    Returns
    -------
    bytes
        A PNG.
    """
    rows = [row for row in results if row["task"] == "separate"]
    most = max(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == most]
    dtypes = _unique(row["dtype"] for row in rows)
    figure = Figure((1.2 + 5.2 * len(dtypes), 5.2), layout="constrained")
    axes = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for axis, dtype in zip(axes, dtypes):
        shown = [row for row in rows if row["dtype"] == dtype]
        for index, model in enumerate(_unique(row["model"] for row in results)):
            own = sorted((r for r in shown if r["model"] == model), key=lambda r: r["seconds"])
            axis.plot([row["seconds"] for row in own], [row["rtf"] for row in own], "o-",
                      label=model, color=f"C{index}")
        axis.set(xscale="log", yscale="log", xlabel="length of the recording (s)",
                 ylabel="real-time factor")
        axis.set_title(f"{dtype}, {shown[0]['device']}, threads {most}", fontsize=10)
        axis.set_xticks(lengths := sorted({row["seconds"] for row in shown}),
                        [f"{length:g}" for length in lengths])
        axis.minorticks_off()
        axis.grid(True, color="#e4e4e4", linewidth=0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return png_bytes(figure)


def reference_length(lengths: Iterable[float]) -> float:
    """Of some lengths in seconds, the one that is nearest to 4 s on a log scale.

    Example
    -------
    >>> reference_length([1, 3, 16])
    3
    """
    return min(lengths, key=lambda length: abs(math.log(length / REFERENCE_SECONDS)))


def _speed_table(rows):
    lengths = sorted({row["seconds"] for row in rows})
    reference = reference_length(lengths)
    baseline = {row["seconds"]: row["rtf"] for row in rows if row["kind"] == "baseline"}
    head = ["model", "params", f"depth at {reference:g} s (sd)", "GMAC/s"]
    head += [f"RTF {length:g} s" for length in lengths]
    if baseline:
        head += [f"faster, {length:g} s" for length in lengths]
    lines = []
    for model in _unique(row["model"] for row in rows):
        own = {row["seconds"]: row for row in rows if row["model"] == model}
        typical = own.get(reference) or next(iter(own.values()))
        line = [model, f"{typical['params'] / 1e6:.2f} M", _depth(typical),
                f"{typical['macs_per_second'] / 1e9:.2f}"]
        line += [_factor(own[length]) if length in own else "" for length in lengths]
        if baseline:
            both = [length in own and length in baseline for length in lengths]
            line += [f"{baseline[length] / own[length]['rtf']:.2f}x" if known else ""
                     for length, known in zip(lengths, both)]
        lines.append(line)
    return markdown_table(head, lines)


def _train_table(rows):
    baseline = next((row["rtf"] for row in rows if row["kind"] == "baseline"), None)
    head = ["model", "audio s per s", "step / audio"]
    lines = [[row["model"], f"{row['audio_seconds_per_second']:.2f}", _factor(row)] for row in rows]
    if baseline:
        head.append("faster")
        for line, row in zip(lines, rows):
            line.append(f"{baseline / row['rtf']:.2f}x")
    return markdown_table(head, lines)


def _memory_table(rows):
    lengths = sorted({row["seconds"] for row in rows})
    lines = []
    for model in _unique(row["model"] for row in rows):
        own = {row["seconds"]: row["peak_bytes"] for row in rows if row["model"] == model}
        lines.append([model, *[f"{own[n] / 1e6:.0f} MB" if n in own else "" for n in lengths]])
    return markdown_table(["model", *[f"{length:g} s" for length in lengths]], lines)


def _depth(row):
    return "–" if row["mean_depth"] is None else f"{row['mean_depth']:.2f} ({row['depth_sd']:.2f})"


def _factor(row):
    return f"{row['rtf']:.4f} ({row['rtf_min']:.4f}–{row['rtf_max']:.4f})"


def _unique(values):
    return list(dict.fromkeys(values))
