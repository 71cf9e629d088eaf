#!/usr/bin/env python3
"""Draw SI-SNRi against latency, as in the paper, from measurements of `papez bench`.

    papez bench BUNDLE ... --json bench.json
    python benchmarks/score_against_latency.py bench.json scores.json figure.png
"""

import argparse
import json
import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from papez_lobes.cli.options import add_overwrite
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.files import png_bytes, refuse_existing, write_bytes
from papez_lobes.profiling.presentation import reference_length


def draw_latency(results: list[dict], scores: dict[str, float]) -> bytes:
    """Draw one point for each model that has a score; its area grows with the parameters.

    Arguments
    ---------
    results : list of dict
        Of `papez bench --json`. Those with the largest number of threads are shown.
    scores : dict of str to float
        Row's name -> dB SI-SNRi.

    Returns
    -------
    bytes
        A PNG.
    """
    rows = [row for row in results if row["task"] == "separate" and row["model"] in scores]
    if not rows:
        raise UserError("no separation of a model that has a score")
    threads = max(row["threads"] for row in rows)
    length = reference_length(row["seconds"] for row in rows)
    rows = [row for row in rows if row["threads"] == threads and row["seconds"] == length]
    figure = Figure((6.4, 5.2), layout="constrained")
    axis = figure.subplots()
    for index, row in enumerate(rows):
        point = (1000 * row["rtf"] * length, scores[row["model"]])
        area = 40 + 20 * row["params"] / 1e6
        axis.scatter(*point, s=area, color=f"C{index}", alpha=0.8)
        axis.annotate(f"{row['model']}, {row['dtype']}", point,
                      xytext=(0, 7 + math.sqrt(area) / 2), textcoords="offset points",
                      ha="center", fontsize=8)
    axis.set(xscale="log", xlabel=f"latency of {length:g} s (ms)", ylabel="SI-SNRi (dB)",
             title=f"{rows[0]['device']}, threads {threads}")
    axis.xaxis.set_major_formatter(LogFormatter())
    axis.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axis.margins(0.2)
    axis.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
    return png_bytes(figure)


def read_scores(path: str | Path) -> dict[str, float]:
    """Read a JSON file of row's names and dB SI-SNRi."""
    try:
        scores = json.loads(Path(path).read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in scores.items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected JSON of the kind {{\"papez\": 12.3}}") from error


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="JSON of `papez bench`")
    parser.add_argument("scores", help="JSON: row's name -> dB SI-SNRi")
    parser.add_argument("figure", help="the PNG to write")
    add_overwrite(parser)
    arguments = parser.parse_args(argv)
    with one_line_errors("score_against_latency.py"):
        refuse_existing(arguments.overwrite, arguments.figure)
        scores = read_scores(arguments.scores)
        results = json.loads(Path(arguments.results).read_text(encoding="utf-8"))
        write_bytes(arguments.figure, draw_latency(results, scores))


if __name__ == "__main__":
    main()
