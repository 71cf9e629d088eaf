"""Output files of an evaluation: CSV, JSON, Markdown, and an HTML page.

The page has averages, the distribution of the scores, and the worst mixtures.
"""

import base64
import csv
import io
import json
import os
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader

from papez_lobes.errors import UserError
from papez_lobes.evaluation.averages import MARKS, cells, mean_of, notes, summarise, table
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import Evaluation, file_stem, write_examples
from papez_lobes.evaluation.pictures import draw_distribution, draw_separation
from papez_lobes.files import write_bytes

ROWS, SUMMARY, TABLE = "results.csv", "summary.json", "summary.md"
PAGE, EXAMPLES = "evaluation.html", "worst"


def check_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Raise UserError if a folder cannot be written to, or holds a file that would be replaced."""
    for name in (ROWS, SUMMARY, TABLE, PAGE, EXAMPLES):
        path = Path(folder, name)
        if os.path.lexists(path) and not overwrite:
            raise UserError(f"{path}: exists; name another folder, or replace the evaluation in "
                            "this one by --overwrite")
    probe = Path(folder, ".probe.tmp")
    write_bytes(probe, b"")
    probe.unlink()


def write_evaluation(evaluation: Evaluation, about: dict, folder: str | Path,
                     group_by: str | None = None, rows: str = ROWS) -> str:
    """Write an evaluation's results: CSV, `summary.json`, `summary.md` and `evaluation.html`.

    An evaluation that is in the folder is replaced. `about` is of `provenance.provenance`,
    `group_by` as for `averages.summarise`, and `rows` the file name of the CSV. Returns the table
    and the paths of the files, to be printed.
    """
    folder = Path(folder)
    groups = summarise(evaluation.rows, group_by)
    text, content, remarks = table(groups), {"results": groups}, notes(groups)
    if evaluation.depths:
        content["depths"] = describe_depths(evaluation.depths)
        remarks.append(depth_line(content["depths"]))
        text += f"\n{remarks[-1]}\n"
    _write_rows(evaluation.rows, folder / rows)
    summary = json.dumps(content | about, indent=1, ensure_ascii=False)
    write_bytes(folder / SUMMARY, f"{summary}\n".encode())
    write_bytes(folder / TABLE, text.encode())
    page = _write_page(evaluation, groups, remarks, about, folder)
    return f"{text}\nper mixture: {folder / rows}\nsummary: {folder / SUMMARY}\npage: {page}"


def _write_rows(rows, path):
    """Write a CSV: a line for each mixture, and last their means (snt_id 'avg')."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    measures = [name for name in names if name not in ("snt_id", *MARKS)]
    average = {"snt_id": "avg"} | {name: mean_of(rows, name) for name in measures}
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=names)
    writer.writeheader()
    writer.writerows([*rows, average])
    write_bytes(path, stream.getvalue().encode())


def _write_page(evaluation, groups, remarks, about, folder):
    """Write the page, which loads nothing from the network, and what it shows to `worst/`.

    What a page that was there before shows of `worst/`, and this one does not, is deleted.
    """
    page, worst = folder / PAGE, folder / EXAMPLES
    before = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
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
