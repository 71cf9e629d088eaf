"""Compare separators: speed, operations, memory and depth, side by side in one run."""

import json
import shlex
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from papez_lobes.config.separator_files import separator_names
from papez_lobes.data.audio import write_bytes
from papez_lobes.devices import checked_device
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.precision import DTYPES
from papez_lobes.tools.breakdown import breakdown_table
from papez_lobes.tools.contestants import Entry, build, entries_of
from papez_lobes.tools.dial_curve import dial_curve, dial_table, draw_dial
from papez_lobes.tools.evaluate import find_manifest
from papez_lobes.tools.machine import all_threads, describe
from papez_lobes.tools.mixing_speed import mixing_table
from papez_lobes.tools.race import Race
from papez_lobes.tools.report import draw, reference_length, tables


def add_arguments(parser):
    """Declare the command's arguments."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME|YAML|BUNDLE|asteroid:CLASS",
        help="separators (default: all of the project's)")
    add("--seconds", nargs="+", type=float, default=[1, 4, 16], help="of audio (default 1 4 16)")
    add("--threads", nargs="+", type=int, help="of the CPU (default: 1, and all)")
    add("--dtype", nargs="+", default=["float32"], choices=DTYPES,
        help="half precision by autocast, int8 for linear maps on a CPU (default float32)")
    add("--device", default="cpu", help="cpu (default), cuda, ...")
    add("--mean-depth", type=float, default=4.5, metavar="D",
        help="of a Papez that prunes, set on the speech (default %(default)s)")
    add("--rounds", type=int, default=5, help="runs of each, interleaved (default %(default)s)")
    add("--speech", nargs="+", default=[], metavar="FILE",
        help="recordings to run on (default: a synthetic mixture like speech)")
    add("--train", action="store_true", help="measure training steps too")
    add("--train-seconds", type=float, default=4, help="of a training step (default %(default)s)")
    add("--dial", metavar="MANIFEST|TREE",
        help="instead: SI-SNRi against real-time factor of one bundle, at every depth")
    add("--dial-limit", type=int, metavar="N", help="of --dial: only the first N mixtures")
    add("--mixing", metavar="SPEAKERS",
        help="measure mixing on the fly too, from a folder with one subfolder per speaker")
    add("--profile", action="store_true",
        help="say where the time goes, at the mean depth and in the baseline (CPU)")
    add("--no-memory", action="store_true", help="leave out the peaks of memory")
    add("--baseline", metavar="FILE:CLASS",
        help="a module in a Python file, [1, T] -> [1, T, C], to compare with; it is run")
    add("--baseline-options", default="{}", metavar="JSON", help="its keyword arguments")
    add("--scores", metavar="FILE", help="JSON, row's name -> dB SI-SNRi, for the figure")
    add("--json", metavar="FILE", help="write the measurements there")
    add("--markdown", metavar="FILE", help="write the tables there, not only to the terminal")
    add("--figure", metavar="FILE", help="draw there (PNG)")


def run(arguments):
    """Measure, print the tables, and write what was asked for."""
    if arguments.dial:
        _turn_dial(arguments)
        return
    scores = _read_scores(arguments.scores)
    entries = _entries(arguments)
    problems = []

    def note(line):
        if line not in problems:
            problems.append(line)
            tqdm.write(line)

    contestants = [c for entry in entries if (c := _built(entry, arguments.device, note))]
    if not contestants:
        raise UserError("none of the separators can be built")
    results, profiles, stopped = [], [], None
    threads_before = torch.get_num_threads()
    try:
        _measure(contestants, arguments, note, results, profiles)
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
        note("what had not been measured when this was interrupted")
    finally:
        torch.set_num_threads(threads_before)
    if not results:
        raise stopped or UserError("none of the separators can run")
    text = _heading(arguments) + tables(results) + "".join(profiles)
    if arguments.mixing and not stopped:
        title = f"Mixing on the fly, {arguments.train_seconds:g} s a mixture"
        table = mixing_table(arguments.mixing, arguments.train_seconds, arguments.rounds)
        text += f"\n### {title}\n\n{table}"
    if problems:
        text += "\nLeft out:\n\n" + "".join(f"- {line}\n" for line in problems)
    print(text)
    if arguments.json:
        about = {"machine": describe(arguments.device), "speech": _speech(arguments)}
        content = json.dumps([row | about for row in results], indent=1)
        write_bytes(arguments.json, (content + "\n").encode())
    if arguments.markdown:
        write_bytes(arguments.markdown, text.encode())
    if arguments.figure:
        write_bytes(arguments.figure, draw(results, scores))
    if stopped:
        raise stopped


def _turn_dial(arguments):
    """Measure, print and write the dial of one bundle."""
    if len(arguments.names) != 1:
        raise UserError("--dial: name one bundle, e.g. papez bench BUNDLE --dial MANIFEST")
    model = load_bundle(arguments.names[0], device=arguments.device, dtype=arguments.dtype[0])
    with tempfile.TemporaryDirectory() as folder:
        manifest = find_manifest(arguments.dial, folder, model.hparams)
        points = dial_curve(model, manifest, arguments.dial_limit)
    text = f"    {shlex.join(_words(arguments))}\n\n{describe(arguments.device)}.\n\n"
    text += dial_table(points)
    print(text)
    if arguments.json:
        write_bytes(arguments.json, (json.dumps(points, indent=1) + "\n").encode())
    if arguments.markdown:
        write_bytes(arguments.markdown, text.encode())
    if arguments.figure:
        write_bytes(arguments.figure, draw_dial(points, Path(arguments.names[0]).resolve().name))


def _entries(arguments):
    """All rows; what is wrong in the arguments ends the command before anything is measured."""
    checked_device(arguments.device)
    if arguments.rounds < 1 or min(arguments.seconds) <= 0 or arguments.train_seconds <= 0:
        raise UserError("--rounds must be at least 1, and --seconds above 0")
    names = arguments.names or separator_names()
    entries = [entry for name in names for entry in entries_of(name, arguments.mean_depth)]
    if arguments.baseline:
        try:
            options = json.loads(arguments.baseline_options)
        except ValueError as error:
            raise UserError(f"--baseline-options: not JSON: {error}") from error
        name = arguments.baseline.rpartition(":")[2]
        label = f"{name} (baseline)"
        entries.append(Entry(label, "baseline", arguments.baseline, options=options))
    return entries


def _built(entry, device, note):
    try:
        return build(entry, device)
    except UserError as error:
        note(f"{entry.model} cannot be built: {error}")
    return None


def _measure(contestants, arguments, note, results, profiles):
    """Append to `results` and `profiles`, which an interruption leaves with what there is."""
    threads = arguments.threads or sorted({1, all_threads()})
    lengths = sorted(arguments.seconds)
    runs = len(contestants) * (arguments.rounds + 1) * len(threads) * len(arguments.dtype)
    total = runs * (len(lengths) + arguments.train)  # at most
    with tqdm(total=total, desc="measuring", unit="run", disable=None) as bar:
        race = Race(
            contestants, tuple(arguments.speech), arguments.device, arguments.rounds,
            not arguments.no_memory, note, bar.update, results,
        )
        for dtype in arguments.dtype:
            for seconds in lengths:
                bar.set_description(f"{dtype}, {seconds:g} s")
                race.separate(seconds, dtype, threads)
            if arguments.train and dtype != "int8":  # which is for inference
                bar.set_description(f"{dtype}, training")
                race.train(arguments.train_seconds, dtype, threads)
        if arguments.profile:
            profiles.extend(_profiles(race, arguments, max(threads)))


def _profiles(race, arguments, threads):
    """Markdown: where the time goes, a table for each dtype."""
    seconds = reference_length(arguments.seconds)
    for dtype in arguments.dtype:
        columns = race.breakdowns(seconds, dtype, threads)
        if columns:
            title = f"Where the time goes: {seconds:g} s, {dtype}, threads {threads}"
            yield f"\n### {title}\n\n{breakdown_table(columns)}"


def _heading(arguments):
    command = shlex.join(_words(arguments))
    return (
        f"    {command}\n\n{describe(arguments.device)}. {arguments.rounds} interleaved rounds; "
        f"medians, in brackets the least and the most. On {_speech(arguments)}.\n"
    )


def _words(arguments):
    """The command line as it can be typed again."""
    words = ["papez", "bench", *arguments.names]
    for key, value in vars(arguments).items():
        if key in ("names", "command", "run") or value in (None, False, [], "{}"):
            continue
        values = value if isinstance(value, list) else [value]
        shown = [f"{item:g}" if isinstance(item, float) else str(item) for item in values]
        words += ["--" + key.replace("_", "-"), *([] if value is True else shown)]
    return words


def _speech(arguments):
    if arguments.speech:
        return "recordings: " + ", ".join(Path(path).name for path in arguments.speech)
    return "a synthetic mixture like speech (from a seed)"


def _read_scores(path):
    if not path:
        return None
    try:
        scores = json.loads(Path(path).read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in scores.items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected JSON of the kind {{\"papez\": 12.3}}") from error
