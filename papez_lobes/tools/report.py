"""The benchmark's results as Markdown tables and as a figure."""

import io
import math

import matplotlib

matplotlib.use("Agg")  # files only; no display is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import LogFormatter

REFERENCE_SECONDS = 4  # the length at which latency, depth and growth are stated, if measured
_GROUP = ("task", "dtype", "threads", "device")


def tables(results):
    """Markdown: one table of speed for each task, dtype, device and number of threads, one of
    memory for each dtype.

    Arguments
    ---------
    results : list of dict
        Measurements, as `papez_lobes.tools.race.Race` makes them.

    Returns
    -------
    str
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


def draw(results, scores=None):
    """The figure: SI-SNRi against latency, as the paper's, or real-time factor against length.

    Arguments
    ---------
    results : list of dict
        As `tables`; what was measured with the most threads is shown.
    scores : dict, optional
        Row's name to dB SI-SNRi. Without it the real-time factor is drawn.

    Returns
    -------
    bytes
        A PNG.
    """
    rows = [row for row in results if row["task"] == "separate"]
    most = max(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == most]
    dtypes = _unique(row["dtype"] for row in rows)
    figure, axes = plt.subplots(
        1, len(dtypes), figsize=(1.2 + 5.2 * len(dtypes), 5.2), sharey=True, squeeze=False,
        layout="constrained",
    )
    colours = _colours([row["model"] for row in results])
    for axis, dtype in zip(axes[0], dtypes):
        shown = [row for row in rows if row["dtype"] == dtype]
        (_draw_latency if scores else _draw_factor)(axis, shown, colours, scores)
        axis.set_title(f"{dtype}, {shown[0]['device']}, threads {most}", fontsize=10)
        axis.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
    if not scores:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, format="png")
    plt.close(figure)
    return stream.getvalue()


def _speed_table(rows):
    lengths = sorted({row["seconds"] for row in rows})
    reference = reference_length(lengths)
    baseline = {row["seconds"]: row["rtf"] for row in rows if row["kind"] == "baseline"}
    head = ["model", "params", f"depth at {reference:g} s (sd)", "GMAC/s",
            *[f"RTF {length:g} s" for length in lengths],
            *([f"{lengths[-1]:g} s : {reference:g} s"] if lengths[-1] > reference else []),
            *[f"faster, {length:g} s" for length in lengths if baseline],
            f"above floor, {reference:g} s"]
    lines = []
    for model in _unique(row["model"] for row in rows):
        own = {row["seconds"]: row for row in rows if row["model"] == model}
        middle = own.get(reference) or next(iter(own.values()))
        line = [model, f"{middle['params'] / 1e6:.2f} M", _depth(middle),
                f"{middle['macs_per_second'] / 1e9:.2f}",
                *[_factor(own.get(length)) for length in lengths]]
        if lengths[-1] > reference:
            both = lengths[-1] in own and reference in own
            line.append(_times(own[lengths[-1]]["rtf"] / own[reference]["rtf"]) if both else "")
        for length in lengths if baseline else []:
            known = length in own and length in baseline
            line.append(_times(baseline[length] / own[length]["rtf"]) if known else "")
        line.append(_times(_above_floor(middle)))
        lines.append(line)
    return _markdown(head, lines)


def _train_table(rows):
    baseline = next((row["rtf"] for row in rows if row["kind"] == "baseline"), None)
    head = ["model", "audio s per s", "step / audio", *(["faster"] if baseline else [])]
    lines = [
        [row["model"], f"{row['audio_seconds_per_second']:.2f}", _factor(row),
         *([_times(baseline / row["rtf"])] if baseline else [])]
        for row in rows
    ]
    return _markdown(head, lines)


def _memory_table(rows):
    lengths = sorted({row["seconds"] for row in rows})
    lines = []
    for model in _unique(row["model"] for row in rows):
        own = {row["seconds"]: row["peak_bytes"] for row in rows if row["model"] == model}
        lines.append([model, *[f"{own[n] / 1e6:.0f} MB" if n in own else "" for n in lengths]])
    return _markdown(["model", *[f"{length:g} s" for length in lengths]], lines)


def _markdown(head, lines):
    rows = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _depth(row):
    return "–" if row["mean_depth"] is None else f"{row['mean_depth']:.2f} ({row['depth_sd']:.2f})"


def _factor(row):
    if row is None:
        return ""
    return f"{row['rtf']:.4f} ({row['rtf_min']:.4f}–{row['rtf_max']:.4f})"


def _times(ratio):
    return f"{ratio:.2f}x"


def _above_floor(row):
    """Time over what the same operations would take at the speed of a large matrix product."""
    if not row["macs_per_second"]:  # a model without a single product
        return float("inf")
    return row["rtf"] * row["product_macs_per_second"] / row["macs_per_second"]


def reference_length(lengths):
    """Of some lengths in seconds the one nearest to 4 s, on a log scale.

    Example
    -------
    >>> reference_length([1, 3, 16])
    3
    """
    return min(lengths, key=lambda length: abs(math.log(length / REFERENCE_SECONDS)))


def _unique(values):
    return list(dict.fromkeys(values))


def _colours(models):
    table = plt.get_cmap("tab20").colors
    return {model: table[index % len(table)] for index, model in enumerate(_unique(models))}


def _draw_factor(axis, rows, colours, _):
    for model in _unique(row["model"] for row in rows):
        own = sorted((r for r in rows if r["model"] == model), key=lambda row: row["seconds"])
        papez = own[0]["mean_depth"] is not None
        axis.plot(
            [row["seconds"] for row in own], [row["rtf"] for row in own], label=model,
            color=colours[model], marker="o", markersize=4, linewidth=2.2 if papez else 1.2,
            linestyle="--" if own[0]["kind"] == "baseline" else "-",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    lengths = sorted({row["seconds"] for row in rows})
    axis.set_xticks(lengths, [f"{length:g}" for length in lengths])
    axis.minorticks_off()
    axis.set_xlabel("length of the recording (s)")
    axis.set_ylabel("real-time factor")


def _draw_latency(axis, rows, colours, scores):
    reference = reference_length([row["seconds"] for row in rows])
    for row in rows:
        if row["seconds"] != reference or row["model"] not in scores:
            continue
        latency, score = 1000 * row["rtf"] * reference, scores[row["model"]]
        size = 40 + 20 * row["params"] / 1e6  # area grows with the parameters
        axis.scatter(latency, score, s=size, color=colours[row["model"]], alpha=0.8)
        axis.annotate(
            row["model"], (latency, score), xytext=(0, 7 + math.sqrt(size) / 2),
            textcoords="offset points", ha="center", fontsize=8,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(LogFormatter())
    axis.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axis.margins(0.2)
    axis.set_xlabel(f"latency of {reference:g} s (ms)")
    axis.set_ylabel("SI-SNRi (dB)")
