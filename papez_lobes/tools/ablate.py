"""Train the paper's ablations, one after another, and put them into one table and figure."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from ruamel.yaml import YAML

from papez_lobes.data.audio import write_bytes
from papez_lobes.errors import UserError
from papez_lobes.evaluation.picture import new_figure, png_of
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.knobs import separator_file
from papez_lobes.separator import separate
from papez_lobes.tools.cost import count_macs, count_parameters

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes/WSJ0Mix/separation/train.py"
EXPERIMENT = TRAIN.parent / "hparams/papez.yaml"
HANDS_ON = True  # words after --, to train.py
SECONDS = 4  # of the noise on which multiply-accumulates are counted


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="ablations (default: all)")
    parser.add_argument("--list", action="store_true", help="say which there are, and end")
    parser.add_argument("--out", default="results/ablations", metavar="FOLDER",
                        help="a folder for each ablation is made there (default %(default)s)")
    parser.add_argument("--experiment", default=EXPERIMENT, metavar="YAML", type=Path,
                        help="how they are trained (default: WSJ0Mix's papez.yaml)")
    parser.add_argument("--print", action="store_true", dest="only_print",
                        help="print the commands instead, to be run as separate jobs")
    parser.add_argument("--report", action="store_true",
                        help="train nothing; put what is finished into the table and the figure")
    parser.usage = "%(prog)s [NAME ...] [options] [-- --KEY VALUE ...]"
    parser.epilog = "Options of train.py, for all of them, come after --."
    parser.set_defaults(handed_on=[])


def run(arguments):
    """Train what is not finished; then write and print the table."""
    known = ablations()
    if arguments.list:
        for name, knobs in known.items():
            print(f"{name:>16}  {', '.join(f'{k} {v}' for k, v in knobs.items()) or 'as it is'}")
        return
    for name in arguments.names:
        if name not in known:
            raise UserError(f"{name}: no such ablation; there are: {', '.join(known)}")
    names, out = arguments.names or list(known), Path(arguments.out).absolute()
    if not arguments.report:
        for name in names:
            command = train_command(name, known[name], out, arguments.experiment,
                                    arguments.handed_on)
            if arguments.only_print:
                print(shlex.join(command))
            elif not (out / name / "summary.json").is_file():
                print(f"{name}: {shlex.join(command)}", flush=True)
                if subprocess.run(command).returncode:
                    raise UserError(f"{name}: its training stopped; repeat the command to go on")
    if arguments.only_print:
        return
    rows = collect(names, out)
    if not rows:
        raise UserError(f"{out}: none of {', '.join(names)} is finished there")
    text = table(rows)
    write_bytes(out / "ablations.json", (json.dumps(rows, indent=1) + "\n").encode())
    write_bytes(out / "ablations.md", text.encode())
    write_bytes(out / "ablations.png", draw(rows))
    print(f"{text}\ntable: {out / 'ablations.md'}\nfigure: {out / 'ablations.png'}")


def ablations():
    """Name -> what differs, as `hparams/ablations.yaml` has it.

    Example
    -------
    >>> ablations()["slots_4"]
    {'num_slots': 4}
    """
    path = separator_file("papez").with_name("ablations.yaml")
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def train_command(name, knobs, out, experiment, overrides):
    """The command that trains an ablation; where it has a separator file of its own, its
    experiment is written beside its results."""
    knobs = dict(knobs)
    own = knobs.pop("separator", None)
    if own is not None:
        text = experiment.read_text(encoding="utf-8")
        included = separator_file("papez").parent / "ablations" / own
        lines = [f"separator: !include:{included}" if line.startswith("separator:") else line
                 for line in text.splitlines()]
        experiment = out / name / "experiment.yaml"
        write_bytes(experiment, ("\n".join(lines) + "\n").encode())
    words = [word for knob, value in knobs.items() for word in (f"--{knob}", str(value))]
    return [sys.executable, str(TRAIN), str(experiment), *overrides, *words,
            "--output_folder", str(out / name)]


def collect(names, out):
    """A row for each ablation that is finished: scores of its test, and the cost of its bundle."""
    rows = []
    for name in names:
        folder = Path(out, name)
        if not (folder / "summary.json").is_file():
            continue
        scores = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["results"]["all"]
        model = load_bundle(folder / "bundle")
        torch.manual_seed(0)
        mixture = torch.randn(1, SECONDS * model.hparams.sample_rate)
        with torch.inference_mode():
            macs = count_macs(lambda m=model, x=mixture: separate(m.mods, x)) / SECONDS
        rows.append({"name": name, "si_snr_i": scores["si_snr_i"],
                     "params": count_parameters(model.mods), "macs_per_second": macs,
                     "mean_depth": scores.get("mean_depth"), "rtf": scores["rtf"]})
    return rows


def table(rows):
    """The rows as a Markdown table.

    Example
    -------
    >>> row = {"name": "hard", "si_snr_i": 9.0, "params": 1473795, "macs_per_second": 5e9,
    ...        "mean_depth": 4.5, "rtf": 0.1}
    >>> print(table([row]).splitlines()[-1])
    | hard | 9.00 | 1.47 M | 5.00 | 4.50 | 0.100 |
    """
    lines = ["| ablation | SI-SNRi, dB | parameters | GMAC/s | mean depth | RTF |",
             "| --- | --: | --: | --: | --: | --: |"]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['si_snr_i']:.2f} | {row['params'] / 1e6:.2f} M "
            f"| {row['macs_per_second'] / 1e9:.2f} | {row['mean_depth']:.2f} | {row['rtf']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows):
    """SI-SNRi of each ablation against its cost, as PNG bytes."""
    figure, axis = new_figure(1, 1, (8, 5))
    for row in rows:
        point = row["macs_per_second"] / 1e9, row["si_snr_i"]
        axis.scatter(*point, color="#4878a8")
        axis.annotate(row["name"], point, textcoords="offset points", xytext=(4, 4), fontsize=8)
    axis.set(xlabel="GMAC per second of audio", ylabel="SI-SNRi, dB")
    return png_of(figure)
