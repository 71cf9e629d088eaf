"""Markdown tables and a figure of a comparison."""

import math
from collections.abc import Callable, Iterable

from matplotlib.figure import Figure

from papez_lobes.files import png_bytes
from papez_lobes.tables import format_number, markdown_table

REFERENCE_SECONDS = 4  # the length whose depth and operations are shown, if measured
TASKS = {"separate": "Separating", "train": "Training steps"}


def comparison_tables(results: list[dict]) -> str:
    """Markdown tables of the results of a `papez_lobes.profiling.comparison.Comparison`.

    There is one of speed for each task, dtype, device and number of threads, and one of memory for
    each dtype.
    """
    text = ""
    for (task, dtype, device, threads), rows in _grouped(
        results, lambda row: (row["task"], row["dtype"], row["device"], row["threads"])
    ):
        where = f"{dtype}, {device}" + (f", threads {threads}" if device == "cpu" else "")
        text += f"\n### {TASKS[task]}: {where}\n\n{_speed_table(rows)}"
    measured = [row for row in results if row["peak_bytes"] is not None]
    for dtype, rows in _grouped(measured, lambda row: row["dtype"]):
        lengths = _lengths(rows)
        lines = [[model, *_at(lengths, own, lambda row: f"{row['peak_bytes'] / 1e6:.0f} MB")]
                 for model, own in _grouped(rows, lambda row: row["model"])]
        head = ["model", *(f"{length:g} s" for length in lengths)]
        text += f"\n### Peak memory of a separation: {dtype}\n\n{markdown_table(head, lines)}"
    return text


def draw_speed(results: list[dict]) -> bytes:
    """Draw the real-time factor against the length of the recording; returns a PNG.

    Results with the largest number of threads are shown.
    """
    rows = [row for row in results if row["task"] == "separate"]
    most = max(row["threads"] for row in rows)
    panels = _grouped([row for row in rows if row["threads"] == most], lambda row: row["dtype"])
    figure = Figure((1.2 + 5.2 * len(panels), 5.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (dtype, shown) in zip(axes, panels):
        for index, (model, own) in enumerate(_grouped(shown, lambda row: row["model"])):
            own = sorted(own, key=lambda row: row["seconds"])
            axis.plot([row["seconds"] for row in own], [row["rtf"] for row in own], "o-",
                      label=model, color=f"C{index}")
        axis.set(xscale="log", yscale="log", xlabel="length of the recording (s)",
                 ylabel="real-time factor")
        axis.set_title(f"{dtype}, {shown[0]['device']}, threads {most}", fontsize=10)
        lengths = _lengths(shown)
        axis.set_xticks(lengths, [f"{length:g}" for length in lengths])
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
    lengths = _lengths(rows)
    reference = reference_length(lengths)
    baseline = {row["seconds"]: row["rtf"] for row in rows if row["kind"] == "baseline"}
    costs = any(row["macs_per_second"] is not None for row in rows)  # none of training steps
    head = ["model", "params"]
    head += [f"depth at {reference:g} s (sd)", "GMAC/s"] if costs else []
    head += [f"RTF {length:g} s" for length in lengths]
    head += [f"faster, {length:g} s" for length in baseline]
    lines = []
    for model, own in _grouped(rows, lambda row: row["model"]):
        typical = min(own, key=lambda row: row["seconds"] != reference)
        line = [model, f"{typical['params'] / 1e6:.2f} M"]
        if costs:
            depth = format_number(typical["mean_depth"])
            if typical["mean_depth"] is not None:
                depth += f" ({typical['depth_sd']:.2f})"
            line += [depth, f"{typical['macs_per_second'] / 1e9:.2f}"]
        line += _at(lengths, own, lambda row: (
            f"{row['rtf']:.4f} ({row['rtf_min']:.4f}–{row['rtf_max']:.4f})"))
        line += _at(baseline, own, lambda row: f"{baseline[row['seconds']] / row['rtf']:.2f}x")
        lines.append(line)
    return markdown_table(head, lines)


def _grouped(rows: list[dict], key: Callable[[dict], object]) -> list[tuple[object, list[dict]]]:
    """(Value of the key, its rows) in the order of the first rows."""
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _lengths(rows):
    """All lengths of audio in seconds, sorted."""
    return sorted({row["seconds"] for row in rows})


def _at(lengths, rows, cell):
    """The cells of a model's rows at these lengths, empty where one was not measured."""
    own = {row["seconds"]: row for row in rows}
    return [cell(own[length]) if length in own else "" for length in lengths]
