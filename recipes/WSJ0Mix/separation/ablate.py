#!/usr/bin/env python3
"""Train the paper's ablations, and collect their results in one table and figure.

    python ablate.py slots_0 slots_4 -- --data_folder /path/to/wsj0-mix/2speakers

Options after `--` are those of train.py, for all ablations.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from papez_lobes.config.separator_files import (
    read_hyperparameters,
    separator_file,
    set_hyperparameters,
)
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.files import png_bytes, write_bytes
from papez_lobes.profiling.comparison import Comparison
from papez_lobes.profiling.machine import describe_machine
from papez_lobes.profiling.models import ModelSpec, build_model
from papez_lobes.tables import format_number, markdown_table

TRAIN = Path(__file__).with_name("train.py")
EXPERIMENT = TRAIN.parent / "hparams/papez.yaml"
INCLUDE = "separator: !include:"
SECONDS, ROUNDS = 4, 5  # of audio, and how often, for operations and the real-time factor
# Key of a row -> title, unit, digits.
COLUMNS = {
    "si_snr_i": ("SI-SNRi, dB", 1, 2), "params": ("parameters, M", 1e6, 2),
    "macs_per_second": ("GMAC/s", 1e9, 2), "mean_depth": ("mean depth", 1, 2),
    "rtf": ("RTF", 1, 3),
}


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    argv = sys.argv[1:] if argv is None else list(argv)
    train_options = []
    if "--" in argv:
        split = argv.index("--")
        argv, train_options = argv[:split], argv[split + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        usage="%(prog)s [NAME ...] [options] [-- --KEY VALUE ...]",
        epilog="Options of train.py, for all ablations, come after --.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="ablations (default: all)")
    parser.add_argument("--list", action="store_true", help="print the ablations and exit")
    parser.add_argument("--out", default="results/ablations", metavar="FOLDER",
                        help="with a folder for each ablation (default %(default)s)")
    parser.add_argument("--experiment", default=EXPERIMENT, metavar="YAML", type=Path,
                        help="how they are trained (default: papez.yaml)")
    parser.add_argument("--print", action="store_true", dest="only_print",
                        help="print the commands, to be run as separate jobs")
    parser.add_argument("--report", action="store_true",
                        help="train nothing; put what is finished into the table and the figure")
    arguments = parser.parse_args(argv)
    with one_line_errors("ablate.py"):
        if arguments.list:
            for name, changes in ablations().items():
                described = ", ".join(f"{key} {value}" for key, value in changes.items())
                print(f"{name:>16}  {described or 'as it is'}")
        else:
            run(arguments, train_options)


def run(arguments: argparse.Namespace, train_options: list[str]) -> None:
    """Train what is not finished; then write and print the table."""
    known = ablations()
    for name in arguments.names:
        if name not in known:
            raise UserError(f"{name}: no such ablation; there are: {', '.join(known)}")
    names = list(dict.fromkeys(arguments.names or known))
    out = Path(arguments.out).absolute()
    if not arguments.experiment.is_file():
        raise UserError(f"{arguments.experiment}: no such file; name an experiment file")
    if not arguments.report:
        for name in names:
            command = train_command(name, known[name], out, arguments.experiment, train_options)
            if arguments.only_print:
                print(shlex.join(command))
            else:
                _train(name, command, out / name)
    if not arguments.only_print:
        _report(names, out)


def ablations() -> dict[str, dict]:
    """Read `hparams/ablations.yaml`: name -> hyperparameters that differ, {'num_slots': 4}."""
    path = separator_file("papez").with_name("ablations.yaml")
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def train_command(
    name: str, changes: dict, out: Path, experiment: Path, train_options: list[str]
) -> list[str]:
    """The command that trains an ablation in the folder `out/name`.

    Arguments
    ---------
    name : str
        Of the ablation.
    changes : dict
        Of `ablations`. If they name a separator file, an experiment that includes it is written
        to the folder.
    out, experiment : pathlib.Path
        The folder of all ablations, and the experiment file.
    train_options : list of str
        Options of train.py; `changes` take precedence.

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        The changes name a separator file, but the experiment includes none that it could replace:
        these files are variants of papez.yaml and have its hyperparameters.
    """
    changes, experiment = dict(changes), Path(experiment).absolute()
    separator = changes.pop("separator", None)
    if separator is not None:
        experiment = _write_experiment(experiment, separator, out / name)
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    return [sys.executable, str(TRAIN), str(experiment), *train_options, *words,
            "--output_folder", str(out / name)]


def _write_experiment(experiment, separator, folder):
    """Write the experiment, with a separator file of the ablations in the place of its own.

    The separator file gets the hyperparameters of the one that it replaces. Both are written to
    one folder, since `!include` does not take a path with a space.
    """
    lines = experiment.read_text(encoding="utf-8").splitlines()
    found = [index for index, line in enumerate(lines) if line.startswith(INCLUDE)]
    if len(found) != 1:
        raise UserError(f"{experiment}: has no line '{INCLUDE}FILE'; name an experiment file")
    replaced = experiment.parent / lines[found[0]].removeprefix(INCLUDE).split()[0]
    file = separator_file("papez").parent / "ablations" / separator
    values = read_hyperparameters(replaced)
    missing = sorted(values.keys() - read_hyperparameters(file).keys())
    if missing:
        raise UserError(f"{experiment}: its separator has {missing[0]}, which the ablation's "
                        f"{separator} lacks; that one goes with experiments of papez.yaml")
    text = set_hyperparameters(file, values)
    lines[found[0]] = f"{INCLUDE}{separator}"
    write_bytes(folder / separator, text.encode())
    write_bytes(folder / "experiment.yaml", ("\n".join(lines) + "\n").encode())
    return folder / "experiment.yaml"


def _train(name, command, folder):
    """Run train.py, which resumes an interrupted training, unless its results are there."""
    summary = _summary(folder)
    if summary is not None:
        words = shlex.join(command[1:])
        other = "" if summary.get("command") == words else f", by: {summary.get('command')}"
        print(f"{name}: is finished in {folder}{other}", flush=True)
        return
    print(f"{name}: {shlex.join(command)}", flush=True)
    if subprocess.run(command).returncode:
        raise UserError(f"{name}: its training stopped; repeat the command to go on")


def _summary(folder):
    """The summary that train.py writes at its end; None if there is none, or without a score."""
    path = Path(folder, "summary.json")
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        scored = summary["results"]["all"]["si_snr_i"] is not None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no summary of an evaluation; delete it, and repeat the command "
                        "to evaluate again") from error
    return summary if scored else None


def _report(names, out):
    """Write and print the table of the finished ablations, and draw the figure."""
    names = [name for name in names if _summary(out / name) is not None]
    if not names:
        raise UserError(f"{out}: no ablation that was asked for is finished there")
    rows, about = collect(names, out)
    text = f"{about['conditions']}\n\n{table(rows)}"
    content = json.dumps([row | about for row in rows], indent=1, ensure_ascii=False)
    write_bytes(out / "ablations.json", (content + "\n").encode())
    write_bytes(out / "ablations.md", text.encode())
    write_bytes(out / "ablations.png", draw(rows))
    print(f"{text}\ntable: {out / 'ablations.md'}\nfigure: {out / 'ablations.png'}")


def collect(names: list[str], out: Path) -> tuple[list[dict], dict]:
    """Collect the rows of finished ablations.

    SI-SNRi and mean depth are those of each one's test. Operations and the real-time factor are
    measured here, of all bundles in one process and in turns, since the tests may have run on
    different machines.

    Arguments
    ---------
    names : list of str
        Finished ablations.
    out : pathlib.Path
        Their folder.

    Returns
    -------
    (list of dict, dict)
        A row for each, with the keys of `COLUMNS`, and the `conditions` of the measurement.
    """
    mixtures = (sorted(Path(out, name, "audio_results").glob("*_mix.wav")) for name in names)
    recordings = next(filter(None, mixtures), ())
    specs = [ModelSpec(name, "bundle", str(Path(out, name, "bundle"))) for name in names]
    threads = torch.get_num_threads()
    comparison = Comparison(
        [build_model(spec, "cpu") for spec in specs], recordings, rounds=ROUNDS, memory=False,
        warn=lambda line: print(line, file=sys.stderr),
    )
    comparison.separate(SECONDS, "float32", [threads])
    costs, rows = {row["model"]: row for row in comparison.results}, []
    for name in names:
        scores, cost = _summary(out / name)["results"]["all"], costs.get(name, {})
        rows.append({"name": name} | {
            key: (scores if key in ("si_snr_i", "mean_depth") else cost).get(key)
            for key in COLUMNS
        })
    what = "test mixtures" if recordings else "a synthetic mixture"
    conditions = (
        f"SI-SNRi and mean depth of the test; GMAC/s and RTF on {SECONDS} s of {what}, float32, "
        f"threads {threads}, median of {ROUNDS} interleaved rounds. {describe_machine('cpu')}."
    )
    return rows, {"conditions": conditions}


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    head = ["ablation", *(title for title, _, _ in COLUMNS.values())]
    return markdown_table(head, [
        [row["name"], *(_cell(row, key) for key in COLUMNS)] for row in rows
    ])


def draw(rows: list[dict]) -> bytes:
    """A bar for each row in each column, as a PNG."""
    figure = Figure((2.2 * len(COLUMNS) + 1.2, 0.28 * len(rows) + 1), layout="constrained")
    axes = figure.subplots(1, len(COLUMNS), sharey=True)
    for axis, (key, (title, unit, _)) in zip(axes, COLUMNS.items()):
        values = [(row[key] or 0) / unit for row in rows]
        bars = axis.barh(range(len(rows)), values, color="#9fc3e8")
        axis.bar_label(bars, [_cell(row, key) for row in rows], padding=2, fontsize=7)
        axis.set_title(title, fontsize=9, loc="left")
        axis.margins(x=0.25)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes[0].invert_yaxis()
    return png_bytes(figure)


def _cell(row, key):
    _, unit, digits = COLUMNS[key]
    return format_number(None if row[key] is None else row[key] / unit, digits)


if __name__ == "__main__":
    main()
