"""The dial of a trained separator: SI-SNRi against real-time factor, from one checkpoint."""

from statistics import median

import torch
from tqdm import tqdm

from papez_lobes.data.audio import read_audio
from papez_lobes.errors import UserError
from papez_lobes.evaluation.evaluate import evaluate, read_manifest
from papez_lobes.evaluation.pictures import new_figure, png_of
from papez_lobes.inference.compute_budget import LOWEST, has_recurrence, set_mean_depth

WAYS = {
    "own": "as it is", "halting": "halting, by its bias", "same depth": "every token at one depth",
}


def dial_curve(model, manifest, limit=None):
    """Evaluate a separator as it is, and at every depth that it allows, in two ways.

    With `halting`, the halting bias is set so that the first mixture has that mean depth; with
    `same depth` nothing halts before that depth. The settings of the model are put back.

    Arguments
    ---------
    model : speechbrain.inference.separation.SepformerSeparation
        A Papez.
    manifest : str or pathlib.Path
        Mixtures to separate.
    limit : int, optional
        Only the first so many.

    Returns
    -------
    list of dict
        `way`, `depth` (asked for, or None), `mean_depth`, `si_snr_i` (dB), `rtf` (median of the
        mixtures'), `halting_bias`, `max_depth`.

    Raises
    ------
    UserError
        The model has no recurrence, or see `papez_lobes.evaluation.evaluate.read_manifest`.
    """
    if not has_recurrence(model.mods):
        raise UserError("--dial: this separator has no recurrence, so there is nothing to dial")
    rate, speakers = model.hparams.sample_rate, model.hparams.num_spks
    _, (mixture, *_) = read_manifest(manifest, speakers, rate, 1)[0]
    mixture = torch.from_numpy(read_audio(mixture, rate)).unsqueeze(0).to(model.device)
    transformer = model.mods["masknet"].transformer
    before, points = (transformer.halting.bias, transformer.max_depth), []
    depths = range(1, transformer.max_depth + 1)
    settings = [("own", None), *((way, d) for way in ("halting", "same depth") for d in depths)]
    try:
        for way, depth in tqdm(settings, desc="turning the dial", unit="setting", disable=None):
            transformer.halting.bias, transformer.max_depth = before
            if way == "halting":
                with torch.inference_mode():
                    set_mean_depth(model.mods, mixture, depth)
            elif way == "same depth":
                transformer.max_depth, transformer.halting.bias = depth, LOWEST
            result = evaluate(model.mods, manifest, speakers, rate, model.device, (), 0, limit)
            points.append({
                "way": way, "depth": depth, "mean_depth": result.mean("mean_depth"),
                "si_snr_i": result.mean("si_snr_i"),
                "rtf": median(row["rtf"] for row in result.rows),
                "halting_bias": transformer.halting.bias, "max_depth": transformer.max_depth,
            })
    finally:
        transformer.halting.bias, transformer.max_depth = before
    return points


def dial_table(points):
    """The points as a Markdown table.

    Example
    -------
    >>> point = {"way": "halting", "depth": 2, "mean_depth": 2.1, "si_snr_i": 3.0, "rtf": 0.05,
    ...          "halting_bias": -1.0, "max_depth": 8}
    >>> print(dial_table([point]).splitlines()[-1])
    | halting, by its bias | 2.10 | 3.00 | 0.050 | -1.00 | 8 |
    """
    lines = ["| way | mean depth | SI-SNRi, dB | RTF | halting_bias | max_depth |",
             "| --- | --: | --: | --: | --: | --: |"]
    for point in points:
        lines.append(f"| {WAYS[point['way']]} | {point['mean_depth']:.2f} "
                     f"| {point['si_snr_i']:.2f} | {point['rtf']:.3f} "
                     f"| {point['halting_bias']:.2f} | {point['max_depth']} |")
    return "\n".join(lines) + "\n"


def draw_dial(points, title):
    """The curves as PNG bytes: SI-SNRi against real-time factor, each point with its depth."""
    figure, axis = new_figure(1, 1, (7, 4.2))
    for way, label in WAYS.items():
        own = sorted((point for point in points if point["way"] == way), key=lambda p: p["rtf"])
        axis.plot([p["rtf"] for p in own], [p["si_snr_i"] for p in own], "o-", label=label)
        for point in own:
            axis.annotate(f"{point['mean_depth']:.1f}", (point["rtf"], point["si_snr_i"]),
                          textcoords="offset points", xytext=(4, 4), fontsize=8)
    axis.set(xlabel="real-time factor", ylabel="SI-SNRi, dB", title=title)
    axis.legend(frameon=False)
    return png_of(figure)
