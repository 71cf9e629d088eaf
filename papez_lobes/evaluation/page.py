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

PAGE, EXAMPLES = "evaluation.html", "worst"


def write_page(evaluation: Evaluation, groups: dict[str, dict], about: dict,
               folder: str | Path) -> Path:
    """Write `evaluation.html`, and the signals and pictures that it shows to `worst/`.

    The page loads nothing from the network. Move it together with `worst/`. What a page that was
    there before shows of `worst/`, and this one does not, is deleted.

    `groups` are those of `averages.summarise`, `about` is of `provenance.provenance`. Returns the
    path of the page.
    """
    page, worst = Path(folder, PAGE), Path(folder, EXAMPLES)
    before = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    remarks = notes(groups)
    if evaluation.depths:
        remarks.append(depth_line(describe_depths(evaluation.depths)))
    files = write_examples(evaluation.worst, worst, evaluation.sample_rate)
    examples = []
    for example in evaluation.worst:
        name = example.row["snt_id"]
        picture = _draw(example, worst / f"{file_stem(name)}.png", evaluation.sample_rate)
        examples.append({
            "name": name,
            "gain": _gain(example.row),
            "players": {kind: _link(path) for kind, path in files[name].items()},
            "picture": _link(picture),
        })
    head, *lines = cells(groups)
    templates = Environment(
        loader=PackageLoader("papez_lobes.evaluation", "."), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )
    text = templates.get_template("page.html").render(
        title=about.get("bundle", "evaluation"), head=head, lines=lines, notes=remarks,
        distribution=base64.b64encode(draw_distribution(evaluation.rows)).decode(),
        examples=examples, about=about,
    )
    for file in worst.iterdir():
        link = f'"{_link(file)}"'
        if link in before and link not in text:
            file.unlink()
    write_bytes(page, text.encode())
    return page


def _draw(example, path, sample_rate):
    """Draw an example of an Evaluation; returns the path."""
    speakers = range(1, example.sources.shape[1] + 1)
    return draw_separation(
        path, example.mixture, example.sources, np.nan_to_num(example.estimates), example.depth,
        sample_rate, [example.row[f"si_snr_i_s{speaker}"] for speaker in speakers],
    )


def _gain(row):
    """A mixture's SI-SNRi in words."""
    if row.get("alone"):
        return "one speaker alone"
    return "not defined" if np.isnan(row["si_snr_i"]) else f"{row['si_snr_i']:+.2f} dB"


def _link(path):
    return quote(f"{EXAMPLES}/{path.name}")
