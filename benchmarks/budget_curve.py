#!/usr/bin/env python3
"""Measure SI-SNRi against real-time factor of one bundle, at every depth that it allows.

    python benchmarks/budget_curve.py papez-small-8k TREE --markdown curve.md --figure curve.png
"""

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from papez_lobes.cli.evaluate import find_manifest
from papez_lobes.cli.options import add_device, add_dtype, add_overwrite, add_trust
from papez_lobes.data.audio import read_audio
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.evaluation.evaluate import evaluate, read_manifest
from papez_lobes.files import png_bytes, refuse_existing, write_bytes
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.compute_budget import LOWEST, has_recurrence, set_mean_depth
from papez_lobes.profiling.machine import describe_machine
from papez_lobes.separator import Separator
from papez_lobes.tables import markdown_table

SERIES = {
    "own": "as trained", "halting": "halting bias", "same depth": "every token at one depth",
}


def budget_curve(model, manifest: str | Path, limit: int | None = None) -> list[dict]:
    """Evaluate a separator as it is, and at every depth in two ways.

    With `halting`, the halting bias is set so that the first mixture has that mean depth. With
    `same depth`, nothing halts before that depth. The model gets its settings back at the end.

    Arguments
    ---------
    model : speechbrain.inference.separation.SepformerSeparation
        A Papez.
    manifest : str or pathlib.Path
        The mixtures.
    limit : int, optional
        Only the first so many.

    Returns
    -------
    list of dict
        `series`, `depth` (asked for, or None), `mean_depth`, `si_snr_i` (dB), `rtf` (median over
        the mixtures), `halting_bias`, `max_depth`.

    Raises
    ------
    UserError
        The model has no recurrence, or see `papez_lobes.evaluation.evaluate.read_manifest`.
    """
    separator = Separator.of(model.mods)
    if not has_recurrence(separator):
        raise UserError("this separator has no recurrence, so its depth cannot be set")
    rate, speakers = model.hparams.sample_rate, model.hparams.num_spks
    _, (mixture, *_) = read_manifest(manifest, speakers, rate, 1)[0]
    mixture = torch.from_numpy(read_audio(mixture, rate)).unsqueeze(0).to(model.device)
    transformer = separator.masknet.transformer
    before, points = (transformer.halting.bias, transformer.max_depth), []
    depths = range(1, transformer.max_depth + 1)
    settings = [("own", None)]
    settings += [(series, depth) for series in ("halting", "same depth") for depth in depths]
    try:
        for series, depth in tqdm(settings, desc="depths", unit="setting", disable=None):
            transformer.halting.bias, transformer.max_depth = before
            if series == "halting":
                with torch.inference_mode():
                    set_mean_depth(separator, mixture, depth)
            elif series == "same depth":
                transformer.max_depth, transformer.halting.bias = depth, LOWEST
            result = evaluate(separator, manifest, speakers, rate, model.device, (), 0, limit)
            points.append({
                "series": series, "depth": depth, "mean_depth": result.mean("mean_depth"),
                "si_snr_i": result.mean("si_snr_i"),
                "rtf": median(row["rtf"] for row in result.rows),
                "halting_bias": transformer.halting.bias, "max_depth": transformer.max_depth,
            })
    finally:
        transformer.halting.bias, transformer.max_depth = before
    return points


def curve_table(points: list[dict]) -> str:
    """The points as a Markdown table."""
    head = ["series", "mean depth", "SI-SNRi, dB", "RTF", "halting_bias", "max_depth"]
    return markdown_table(head, [
        [SERIES[point["series"]], f"{point['mean_depth']:.2f}", f"{point['si_snr_i']:.2f}",
         f"{point['rtf']:.3f}", f"{point['halting_bias']:.2f}", point["max_depth"]]
        for point in points
    ])


def draw_curve(points: list[dict], title: str) -> bytes:
    """The curves as a PNG; each point is labelled with its mean depth."""
    figure = Figure((7, 4.2), layout="constrained")
    axis = figure.subplots()
    for series, label in SERIES.items():
        own = sorted((point for point in points if point["series"] == series),
                     key=lambda point: point["rtf"])
        axis.plot([p["rtf"] for p in own], [p["si_snr_i"] for p in own], "o-", label=label)
        for point in own:
            axis.annotate(f"{point['mean_depth']:.1f}", (point["rtf"], point["si_snr_i"]),
                          textcoords="offset points", xytext=(4, 4), fontsize=8)
    axis.set(xlabel="real-time factor", ylabel="SI-SNRi, dB", title=title)
    axis.legend(frameon=False)
    return png_bytes(figure)


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="a folder, or a name that `papez list` shows")
    parser.add_argument("data", help="a manifest, or a tree in WSJ0-mix's layout")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N mixtures")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--figure", metavar="FILE", help="PNG")
    add_overwrite(parser)
    add_device(parser)
    add_dtype(parser)
    add_trust(parser)
    arguments = parser.parse_args(argv)
    with one_line_errors("budget_curve.py"):
        refuse_existing(arguments.overwrite, arguments.json, arguments.markdown, arguments.figure)
        model = load_bundle(arguments.bundle, device=arguments.device, dtype=arguments.dtype,
                            trust=arguments.trust)
        with tempfile.TemporaryDirectory() as folder:
            manifest = find_manifest(arguments.data, folder, model.hparams.num_spks,
                                     model.hparams.sample_rate)
            points = budget_curve(model, manifest, arguments.limit)
        command = shlex.join(["python", "benchmarks/budget_curve.py", *argv])
        machine = describe_machine(arguments.device)
        text = f"    {command}\n\n{machine}.\n\n{curve_table(points)}"
        print(text)
        if arguments.json:
            write_bytes(arguments.json, (json.dumps(points, indent=1) + "\n").encode())
        if arguments.markdown:
            write_bytes(arguments.markdown, text.encode())
        if arguments.figure:
            title = Path(arguments.bundle).resolve().name
            write_bytes(arguments.figure, draw_curve(points, title))


if __name__ == "__main__":
    main()
