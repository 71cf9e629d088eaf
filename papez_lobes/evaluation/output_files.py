"""Output files of an evaluation: CSV, JSON, Markdown and an HTML page."""

import csv
import io
import json
from pathlib import Path

from papez_lobes.evaluation.averages import summarise, table
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import Evaluation, mean_of
from papez_lobes.evaluation.page import write_page
from papez_lobes.files import write_bytes


def check_folder(folder: str | Path) -> None:
    """Raise UserError if a folder cannot be written to; called before an evaluation."""
    probe = Path(folder, ".probe.tmp")
    write_bytes(probe, b"")
    probe.unlink()


def write_evaluation(evaluation: Evaluation, about: dict, folder: str | Path,
                     group_by: str | None = None, rows: str = "results.csv") -> str:
    """Write an evaluation's results: CSV, `summary.json`, `summary.md` and `evaluation.html`.

    Arguments
    ---------
    evaluation : papez_lobes.evaluation.evaluate.Evaluation
        Results to write.
    about : dict
        See `papez_lobes.evaluation.provenance.provenance`.
    folder : str or pathlib.Path
        Folder to write to.
    group_by : str, optional
        See `papez_lobes.evaluation.averages.summarise`.
    rows : str
        File name of the CSV.

    Returns
    -------
    str
        The table, and the paths of the files.
    """
    folder = Path(folder)
    groups = summarise(evaluation.rows, group_by)
    text, content = table(groups), {"results": groups}
    if evaluation.depths:
        content["depths"] = describe_depths(evaluation.depths)
        text += f"\n{depth_line(content['depths'])}\n"
    _write_rows(evaluation.rows, folder / rows)
    summary = json.dumps(content | about, indent=1, ensure_ascii=False)
    write_bytes(folder / "summary.json", f"{summary}\n".encode())
    write_bytes(folder / "summary.md", text.encode())
    page = write_page(evaluation, groups, about, folder)
    return f"{text}\nper mixture: {folder / rows}\nsummary: {folder / 'summary.json'}\npage: {page}"


def _write_rows(rows, path):
    """Write a CSV: a line for each mixture, and last their means (snt_id 'avg')."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    average = {"snt_id": "avg"}
    average |= {name: mean_of(rows, name) for name in names[1:] if name != "failed"}
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=names)
    writer.writeheader()
    writer.writerows([*rows, average])
    write_bytes(path, stream.getvalue().encode())
