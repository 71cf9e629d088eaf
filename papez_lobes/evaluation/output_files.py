"""Output files of an evaluation: CSV, JSON, Markdown and an HTML page."""

import csv
import io
import json
import os
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.evaluation.averages import MARKS, mean_of, summarise, table
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import Evaluation
from papez_lobes.evaluation.page import EXAMPLES, PAGE, write_page
from papez_lobes.files import write_bytes

ROWS, SUMMARY, TABLE = "results.csv", "summary.json", "summary.md"


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
    text, content = table(groups), {"results": groups}
    if evaluation.depths:
        content["depths"] = describe_depths(evaluation.depths)
        text += f"\n{depth_line(content['depths'])}\n"
    _write_rows(evaluation.rows, folder / rows)
    summary = json.dumps(content | about, indent=1, ensure_ascii=False)
    write_bytes(folder / SUMMARY, f"{summary}\n".encode())
    write_bytes(folder / TABLE, text.encode())
    page = write_page(evaluation, groups, about, folder)
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
