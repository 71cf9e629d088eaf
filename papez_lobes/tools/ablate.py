"""Train the paper's ablations, one after another, and put them into one table and figure."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from ruamel.yaml import YAML
from tqdm import tqdm

from papez_lobes.config.separator_files import read_knobs, separator_file, set_knobs
from papez_lobes.data.audio import write_bytes
from papez_lobes.errors import UserError
from papez_lobes.evaluation.pictures import new_figure, png_of
from papez_lobes.tools.contestants import Entry, build
from papez_lobes.tools.machine import describe
from papez_lobes.tools.race import Race

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes/WSJ0Mix/separation/train.py"
EXPERIMENT = TRAIN.parent / "hparams/papez.yaml"
INCLUDE = "separator: !include:"
HANDS_ON = True  # words after --, to train.py
SECONDS, ROUNDS = 4, 5  # of audio, and how often, for operations and the real-time factor
# of a row: column, unit, digits
COLUMNS = {
    "si_snr_i": ("SI-SNRi, dB", 1, 2), "params": ("parameters, M", 1e6, 2),
    "macs_per_second": ("GMAC/s", 1e9, 2), "mean_depth": ("mean depth", 1, 2),
    "rtf": ("RTF", 1, 3),
}


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
    names = list(dict.fromkeys(arguments.names or known))
    out = Path(arguments.out).absolute()
    if not arguments.experiment.is_file() and arguments.experiment != EXPERIMENT:
        raise UserError(f"{arguments.experiment}: no such file; name an experiment file")
    if not arguments.report:
        if not TRAIN.is_file():
            raise UserError(f"{TRAIN}: no such file; train from a checkout of the project")
        for name in names:
            command = train_command(name, known[name], out, arguments.experiment,
                                    arguments.handed_on)
            if arguments.only_print:
                print(shlex.join(command))
            else:
                _train(name, command, out / name)
    if not arguments.only_print:
        _report(names, out)


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
    """The words that train an ablation in the folder `out/name`.

    Arguments
    ---------
    name : str
        Of the ablation.
    knobs : dict
        What differs, see `ablations`. For a separator file of its own, an experiment that includes
        that is written to the folder.
    out, experiment : pathlib.Path
        The folder of all ablations, and the experiment file.
    overrides : list of str
        Options of train.py; the ablation's own win.

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        A separator file of its own is wanted, and the experiment includes none that it could stand
        in for: those files are variants of papez.yaml and have its knobs.
    """
    knobs, experiment = dict(knobs), Path(experiment).absolute()
    own = knobs.pop("separator", None)
    if own is not None:
        experiment = _derive(experiment, own, out / name)
    words = [word for knob, value in knobs.items() for word in (f"--{knob}", str(value))]
    return [sys.executable, str(TRAIN), str(experiment), *overrides, *words,
            "--output_folder", str(out / name)]


def _derive(experiment, own, folder):
    """Write the experiment with a separator file of the ablations instead of its own, whose knobs
    that gets. Both lie in one folder, since a path with a space cannot be included."""
    lines = experiment.read_text(encoding="utf-8").splitlines()
    found = [index for index, line in enumerate(lines) if line.startswith(INCLUDE)]
    if len(found) != 1:
        raise UserError(f"{experiment}: has no line '{INCLUDE}FILE'; name an experiment file")
    theirs = experiment.parent / lines[found[0]].removeprefix(INCLUDE).split()[0]
    file, knobs = separator_file("papez").parent / "ablations" / own, read_knobs(theirs)
    missing = sorted(knobs.keys() - read_knobs(file).keys())
    if missing:
        raise UserError(f"{experiment}: its separator has {missing[0]}, which the ablation's {own} "
                        "lacks; that one goes with experiments of papez.yaml")
    text = set_knobs(file, knobs)
    lines[found[0]] = f"{INCLUDE}{own}"
    write_bytes(folder / own, text.encode())
    write_bytes(folder / "experiment.yaml", ("\n".join(lines) + "\n").encode())
    return folder / "experiment.yaml"


def _train(name, command, folder):
    """Run train.py, which resumes what was interrupted, unless its results are there."""
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
    """What train.py wrote last, or None if it has not ended with a model that separates."""
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
    """Write and print what is finished."""
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


def collect(names, out):
    """The rows of ablations that are finished.

    SI-SNRi and mean depth are those of each one's test. Operations and the real-time factor are
    measured here, of all bundles in one process and interleaved, since the tests may have run on
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
        A row for each, with the keys of `COLUMNS`, and under which `conditions` it was measured.
    """
    heard = (sorted(Path(out, name, "audio_results").glob("*_mix.wav")) for name in names)
    speech = tuple(next(filter(None, heard), ()))
    entries = [Entry(name, "bundle", str(Path(out, name, "bundle"))) for name in names]
    threads = torch.get_num_threads()
    runs = len(entries) * (ROUNDS + 1)
    with tqdm(total=runs, desc="measuring", unit="run", disable=None) as bar:
        race = Race([build(entry, "cpu") for entry in entries], speech, "cpu", ROUNDS,
                    memory=False, note=lambda line: print(line, file=sys.stderr), tick=bar.update)
        race.separate(SECONDS, "float32", [threads])
    costs, rows = {row["model"]: row for row in race.results}, []
    for name in names:
        scores, cost = _summary(out / name)["results"]["all"], costs.get(name, {})
        rows.append({"name": name} | {
            key: (scores if key in ("si_snr_i", "mean_depth") else cost).get(key)
            for key in COLUMNS
        })
    what = "test mixtures" if speech else "a synthetic mixture"
    conditions = (
        f"SI-SNRi and mean depth of the test; GMAC/s and RTF on {SECONDS} s of {what}, float32, "
        f"threads {threads}, median of {ROUNDS} interleaved rounds. {describe('cpu')}."
    )
    return rows, {"conditions": conditions}


def table(rows):
    """The rows as a Markdown table.

    Example
    -------
    >>> row = {"name": "hard", "si_snr_i": 9.0, "params": 1473795, "macs_per_second": 5e9,
    ...        "mean_depth": 4.5, "rtf": None}
    >>> print(table([row]).splitlines()[-1])
    | hard | 9.00 | 1.47 | 5.00 | 4.50 | – |
    """
    titles = [title for title, _, _ in COLUMNS.values()]
    lines = [f"| ablation | {' | '.join(titles)} |", "| --- |" + " --: |" * len(titles)]
    lines += [f"| {row['name']} | {' | '.join(_shown(row, key) for key in COLUMNS)} |"
              for row in rows]
    return "\n".join(lines) + "\n"


def draw(rows):
    """A bar for each row in each column, as PNG bytes."""
    figure, axes = new_figure(
        1, len(COLUMNS), (2.2 * len(COLUMNS) + 1.2, 0.28 * len(rows) + 1), sharey=True
    )
    for axis, (key, (title, unit, _)) in zip(axes, COLUMNS.items()):
        values = [(row[key] or 0) / unit for row in rows]
        bars = axis.barh(range(len(rows)), values, color="#9fc3e8")
        axis.bar_label(bars, [_shown(row, key) for row in rows], padding=2, fontsize=7)
        axis.set_title(title, fontsize=9, loc="left")
        axis.margins(x=0.25)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes[0].invert_yaxis()
    return png_of(figure)


def _shown(row, key):
    """A number as table and figure show it."""
    _, unit, digits = COLUMNS[key]
    return "–" if row[key] is None else f"{row[key] / unit:.{digits}f}"
