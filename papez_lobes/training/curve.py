"""Training curves: a JSON file of epochs, and the figure and table made from it.

    python -m papez_lobes.training.curve results/papez_small/1234 --figure curve.png --markdown
"""

import argparse
import io
import json
import sys
from pathlib import Path

from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.files import refuse_existing, write_bytes
from papez_lobes.tables import markdown_table

FILE = "training_curve.json"
PANELS = {  # title: (unit, the lines: label and path in an epoch's record)
    "Loss": ("dB", {"training": ("train", "loss"), "validation": ("valid", "loss")}),
    "SI-SNR improvement": ("dB", {"validation": ("valid", "si_snr_i")}),
    "Learning rate": ("", {"": ("lr",)}),
    "Mean depth": ("steps", {"training": ("train", "mean_depth"),
                             "validation": ("valid", "mean_depth")}),
    "Speed": ("s of audio per s", {"by the clock": ("audio_per_second",),
                                   "by computing time": ("audio_per_cpu_second",)}),
}
COLUMNS = ("hours of audio", "learning rate", "training loss", "validation loss", "SI-SNRi")


class TrainingCurve:
    """The epochs of a training, kept in a JSON file, a list of objects, that is never half written.

    Example
    -------
    >>> curve = TrainingCurve(getfixture("tmp_path") / "training_curve.json")
    >>> for epoch in (1, 2):
    ...     curve.add(epoch=epoch, lr=0.001, train={"loss": -1.0, "audio_hours": epoch / 2})
    >>> curve.drop_epochs_after(1)
    >>> [record["epoch"] for record in curve.records]
    [1]
    """

    def __init__(self, file: str | Path):
        self.file = Path(file)

    @property
    def records(self) -> list[dict]:
        """Records of the epochs so far."""
        if not self.file.is_file():
            return []
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.file}: is no training curve; delete it") from error

    def add(self, **record) -> None:
        """Append the record of an epoch: numbers, and dictionaries of numbers, by name."""
        self._write([*self.records, record])

    def drop_epochs_after(self, epoch: int) -> None:
        """Drop epochs that a resumed training repeats, since it ended before it could save them."""
        records = self.records
        kept = [record for record in records if record["epoch"] <= epoch]
        if len(kept) < len(records):
            self._write(kept)

    def _write(self, records):
        lines = ",\n".join(json.dumps(record) for record in records)
        write_bytes(self.file, f"[\n{lines}\n]\n".encode())


def plot_curves(curves: dict[str, list[dict]], file: str | Path) -> None:
    """Draw loss, score, learning rate, depth and speed against hours of audio, to a picture.

    `curves` holds the records of trainings (see `TrainingCurve`) by name.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2 * len(PANELS)), layout="constrained")
    kind = Path(file).suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{file}: no kind of picture ends so; name it .png, .pdf or .svg")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    for panel, (title, (unit, lines)) in zip(panels, PANELS.items()):
        for color, (name, records) in enumerate(curves.items()):
            for style, (label, path) in zip(("-", "--"), lines.items()):
                points = [(_value(r, ("train", "audio_hours")), _value(r, path)) for r in records]
                points = [point for point in points if None not in point]
                if points:
                    words = filter(None, (name if len(curves) > 1 else "", label))
                    label = ", ".join(words) or None
                    panel.plot(*zip(*points), style, color=f"C{color}", label=label)
        panel.set_ylabel(f"{title} ({unit})" if unit else title, fontsize=8)
        panel.grid(alpha=0.3)
        if any(panel.get_legend_handles_labels()[1]):
            panel.legend(fontsize=7)
    panels[-1].set_xlabel("hours of audio trained on")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format=kind)
    write_bytes(file, picture.getvalue())


def _value(record, path):
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def curve_table(records: list[dict], rows: int = 20) -> str:
    """A Markdown table of a training's epochs: at most `rows`, evenly spaced, with the last one.

    Example
    -------
    >>> print(curve_table([{"epoch": 1, "lr": 0.001, "train": {"loss": -5.0, "audio_hours": 2.0},
    ...                     "valid": {"loss": -4.5, "si_snr_i": 4.6}}]), end="")
    | hours of audio | learning rate | training loss | validation loss | SI-SNRi |
    | --- | --: | --: | --: | --: |
    | 2.0 | 1.0e-03 | -5.00 | -4.50 | +4.60 dB |
    """
    if len(records) > rows:
        step = (len(records) - 1) / (rows - 1)
        records = [records[round(index * step)] for index in range(rows)]
    return markdown_table(COLUMNS, (
        (f"{train['audio_hours']:.1f}", f"{record['lr']:.1e}", f"{train['loss']:.2f}",
         f"{valid['loss']:.2f}", f"{valid['si_snr_i']:+.2f} dB")
        for record in records for train, valid in [(record["train"], record["valid"])]
    ))


def main(argv: list[str] | None = None) -> None:
    """Draw the curves of trainings and print them as tables; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Draw the curves of trainings.")
    parser.add_argument("trainings", nargs="+", metavar="FOLDER",
                        help=f"output folder of a training, or a {FILE} file")
    parser.add_argument("--figure", metavar="FILE", help="write a picture, e.g. curve.png")
    parser.add_argument("--markdown", action="store_true", help="print a table of each training")
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that exists")
    arguments = parser.parse_args(argv)
    with one_line_errors("curve"):
        refuse_existing(arguments.overwrite, arguments.figure)
        curves = {}
        for training in map(Path, arguments.trainings):
            file = training / FILE if training.is_dir() else training
            curves[training.name] = TrainingCurve(file).records
            if not curves[training.name]:
                raise UserError(f"{file}: no epoch of a training; name an output folder")
        if arguments.figure:
            plot_curves(curves, arguments.figure)
        if arguments.markdown:
            print(*(f"{name}\n\n{curve_table(records)}" for name, records in curves.items()),
                  sep="\n")


if __name__ == "__main__":
    sys.exit(main())
