"""HTML page of an evaluation: averages, distribution of the scores, and the worst mixtures."""

import base64
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader

from papez_lobes.evaluation.averages import cells, notes
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import Evaluation, file_stem, write_examples
from papez_lobes.evaluation.pictures import draw_distribution, draw_separation
from papez_lobes.files import write_bytes


def write_page(evaluation: Evaluation, groups: dict[str, dict], about: dict,
               folder: str | Path) -> Path:
    """Write `evaluation.html`, and the signals and pictures that it shows to `worst/`.

    The page loads nothing from the network. Move it together with `worst/`.

    Arguments
    ---------
    evaluation : papez_lobes.evaluation.evaluate.Evaluation
        The results.
    groups : dict
        Of `papez_lobes.evaluation.averages.summarise`.
    about : dict
        Of `papez_lobes.evaluation.provenance.provenance`.
    folder : str or pathlib.Path
        Folder to write to.

    Returns
    -------
    pathlib.Path
        The page.
    """
    folder = Path(folder)
    remarks = notes(groups)
    if evaluation.depths:
        remarks.append(depth_line(describe_depths(evaluation.depths)))
    files = write_examples(evaluation.worst, folder / "worst", evaluation.sample_rate)
    shown = {file for signals in files.values() for file in signals.values()}
    examples = []
    for example in evaluation.worst:
        name, gain = example.row["snt_id"], example.row["si_snr_i"]
        picture = _draw(example, folder / "worst" / f"{file_stem(name)}.png",
                        evaluation.sample_rate)
        shown.add(picture)
        examples.append({
            "name": name,
            "gain": "not defined" if np.isnan(gain) else f"{gain:+.2f} dB",
            "players": {kind: _link(path, folder) for kind, path in files[name].items()},
            "picture": _link(picture, folder),
        })
    for file in (folder / "worst").iterdir():  # of an earlier evaluation in this folder
        if file.suffix in (".wav", ".png") and file not in shown:
            file.unlink()
    head, *lines = cells(groups)
    templates = Environment(
        loader=PackageLoader("papez_lobes.evaluation", "."), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("page.html").render(
        title=about.get("bundle", "evaluation"), head=head, lines=lines, notes=remarks,
        distribution=base64.b64encode(draw_distribution(evaluation.rows)).decode(),
        examples=examples, about=about,
    )
    write_bytes(folder / "evaluation.html", page.encode())
    return folder / "evaluation.html"


def _draw(example, path, sample_rate):
    """Draw an example of an Evaluation; returns the path."""
    speakers = range(1, example.sources.shape[1] + 1)
    return draw_separation(
        path, example.mixture, example.sources, np.nan_to_num(example.estimates), example.depth,
        sample_rate, [example.row[f"si_snr_i_s{speaker}"] for speaker in speakers],
    )


def _link(path, folder):
    return quote(path.relative_to(folder).as_posix())
