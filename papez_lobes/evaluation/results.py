"""All the files of an evaluation."""

from pathlib import Path

from papez_lobes.data.audio import write_bytes
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.page import write_page
from papez_lobes.evaluation.summary import summarise, table, write_rows, write_summary


def check_folder(folder):
    """Raises UserError where no results could be written: before the work, not after it."""
    probe = Path(folder, ".probe.tmp")
    write_bytes(probe, b"")
    probe.unlink()


def write_evaluation(evaluation, about, folder, group_by=None, rows="results.csv"):
    """Write an evaluation's results: CSV, `summary.json`, `summary.md` and `evaluation.html`.

    Arguments
    ---------
    evaluation : papez_lobes.evaluation.evaluate.Evaluation
    about : dict
        See `papez_lobes.evaluation.summary.provenance`.
    folder : str or pathlib.Path
        Where to.
    group_by : str, optional
        See `papez_lobes.evaluation.summary.summarise`.
    rows : str
        The name of the CSV.

    Returns
    -------
    str
        The table, and where everything is.
    """
    folder = Path(folder)
    groups = summarise(evaluation.rows, group_by)
    text, depths = table(groups), {}
    if evaluation.depths:
        depths = {"depths": describe_depths(evaluation.depths)}
        text += f"\n{depth_line(depths['depths'])}\n"
    write_rows(evaluation.rows, folder / rows)
    write_summary(groups, depths | about, folder / "summary.json")
    write_bytes(folder / "summary.md", text.encode())
    page = write_page(evaluation, groups, about, folder)
    return f"{text}\nper mixture: {folder / rows}\nsummary: {folder / 'summary.json'}\npage: {page}"
