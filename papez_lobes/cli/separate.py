"""Separate recordings into one file per speaker."""

import argparse
import sys
from contextlib import redirect_stdout

from papez_lobes.cli.options import add_dtype, add_engine, add_trust
from papez_lobes.errors import UserError
from papez_lobes.inference.remote import STANDARD_INPUT

SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}  # of the output files
CALIBRATION_SECONDS = 30  # of the first recording's beginning, on which a budget is met
OVERRIDES = ("max_depth", "halting_threshold")  # hyperparameters of the bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez separate`."""
    parser.add_argument("inputs", nargs="+", metavar="FILE|FOLDER|GLOB|LIST|-", help="recordings "
                        "of several speakers, of any length; a list is a .txt file with one of "
                        "them a line, - is an audio file on standard input; URLs such as "
                        "s3://bucket/folder are those of fsspec")
    parser.add_argument("-o", "--out", default="separated", metavar="FOLDER", help="where "
                        "NAME_s1.wav, NAME_s2.wav, ... are written, or its URL (default: "
                        "separated)")
    parser.add_argument("-n", "--bundle", metavar="BUNDLE", help="a name that `papez list` shows, "
                        "a folder, fast or best (default: the best one that runs at least five "
                        "times faster than real time here)")
    parser.add_argument("--num-spks", type=int, metavar="C", help="number of speakers; it picks "
                        "the bundle (default: 2)")
    parser.add_argument("-d", "--device", help="cuda, mps, cpu, ... (default: the first of these "
                        "that works here)")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="recordings at once "
                        "(default: 1; with --ray as many as there are cores, or GPUs)")
    parser.add_argument("--ray", metavar="local|ADDRESS", help="separate on a Ray cluster, see "
                        "docs/scale.md; needs `pip install papez-lobes[ray]`")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace estimates that exist")
    existing.add_argument("--skip-existing", action="store_true", help="leave out recordings whose "
                          "estimates exist")

    files = parser.add_argument_group("what is written")
    files.add_argument("--filename", default="{track}_s{speaker}.{ext}", metavar="TEMPLATE",
                       help="name of a file (default: %(default)s)")
    files.add_argument("--flac", action="store_true", help="write FLAC files")
    width = files.add_mutually_exclusive_group()
    width.add_argument("--int24", dest="sample_format", action="store_const", const="int24",
                       default="int16", help="24 bits a sample (default: 16)")
    width.add_argument("--float32", dest="sample_format", action="store_const", const="float32",
                       help="32-bit floating point samples")
    files.add_argument("--clip-mode", choices=("rescale", "clamp"), default="rescale",
                       help="where an estimate exceeds full scale: scale all of the recording's "
                       "down alike (default), or clip")
    files.add_argument("--keep-rate", action="store_true", help="write at the recording's rate, "
                       "not the model's; nothing above the model's band is in the files")
    files.add_argument("--residual", action="store_true", help="also write NAME_residual.wav: the "
                       "recording minus all estimates")
    files.add_argument("--plot", action="store_true", help="also write NAME.png: spectrograms")
    files.add_argument("--json", action="store_true", help="print a line of JSON for each "
                       "recording")

    model = parser.add_argument_group("how it is computed")
    model.add_argument("--segment", type=float, metavar="S", help="length of the windows in which "
                       "long recordings are separated, in seconds")
    model.add_argument("--overlap", type=float, metavar="S", help="of neighbouring windows, in "
                       "seconds")
    add_dtype(model)
    add_engine(model)
    model.add_argument("--max-depth", type=int, metavar="D", help="greatest number of steps "
                       "that a token may run")
    model.add_argument("--halting-threshold", type=float, metavar="X",
                       help="in (0, 1]; tokens halt earlier with a lower threshold")
    budget = model.add_mutually_exclusive_group()
    budget.add_argument("--mean-depth", type=float, metavar="D",
                        help="mean number of steps of a token, set on the first recording; more "
                        "steps than in training give worse results")
    budget.add_argument("--rtf", type=float, metavar="X",
                        help="real-time factor to stay below: tokens halt earlier if the first "
                        "recording takes longer")
    add_trust(model)


def run(arguments: argparse.Namespace) -> None:
    """Separate each recording; name those that fail at the end, after the others are done."""
    from papez_lobes.inference.batch import BatchSeparator, check_names, separate_all
    from papez_lobes.inference.recordings import find_recordings

    jobs = arguments.jobs
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: it must be 1 or more")
    recordings = find_recordings(arguments.inputs)
    options, separator = _prepare(arguments, recordings[0].source)
    separator.windows(options.files.segment, options.files.overlap)  # refuses what does not fit
    check_names(recordings, options, separator.num_speakers)
    if arguments.ray is not None:
        from papez_lobes.inference.ray_pool import separate_on_ray

        count = separator.num_speakers
        del separator
        outcomes = separate_on_ray(recordings, options, count, arguments.ray, jobs)
    elif jobs is None or jobs == 1:
        batch_separator = BatchSeparator(options, separator)
        outcomes = _separate_in_turn(batch_separator, recordings)
    else:
        del separator
        outcomes = separate_all(recordings, options, min(jobs, len(recordings)))
    together = arguments.ray is not None or (jobs or 1) > 1
    output = sys.stdout
    with redirect_stdout(sys.stderr):  # Ray prints messages of its own
        _report(outcomes, len(recordings), arguments, output, together)


def _prepare(arguments, first):
    """The options of all recordings, and a separator that has them.

    Budgets are met on the first recording, and become a halting bias that all processes use.
    """
    from papez_lobes.inference.batch import OVERWRITE, REFUSE, SKIP, BatchOptions
    from papez_lobes.inference.engines import ENGINES, engines_for_files
    from papez_lobes.inference.files import FileOptions
    from papez_lobes.inference.interface import load

    given = {name: getattr(arguments, name) for name in OVERRIDES}
    device = _device(arguments)
    depth_is_set = arguments.mean_depth is not None or arguments.rtf is not None
    if arguments.engine is not None:
        engines = (arguments.engine,)
    elif arguments.ray is not None:  # the cluster may lack what this machine has
        engines = ENGINES
    else:
        engines = engines_for_files(device, arguments.dtype, depth_is_set)
    model = {
        "bundle": arguments.bundle, "device": device, "dtype": arguments.dtype,
        "num_speakers": arguments.num_spks, "trust": arguments.trust, "engines": engines,
        "overrides": {name: value for name, value in given.items() if value is not None},
    }
    separator = load(**model)
    model["bundle"] = separator.path  # other processes need not choose again
    if arguments.ray is not None:
        model["device"] = arguments.device or "cpu"  # the cluster may have what this machine lacks
    if depth_is_set:
        budget = {"mean_depth": arguments.mean_depth, "real_time_factor": arguments.rtf}
        model["overrides"] |= _set_budget(separator, first, budget)
    windows = {name: getattr(arguments, name) for name in ("segment", "overlap")}
    files = FileOptions(
        subtype=SUBTYPES[arguments.sample_format], clip=arguments.clip_mode,
        keep_rate=arguments.keep_rate, residual=arguments.residual,
        **{name: value for name, value in windows.items() if value is not None},
    )
    existing = OVERWRITE if arguments.overwrite else SKIP if arguments.skip_existing else REFUSE
    ext = "flac" if arguments.flac else "wav"
    return BatchOptions(
        model, arguments.out, arguments.filename, ext, existing, arguments.plot, files
    ), separator


def _device(arguments):
    """The device that was asked for, or the CPU where it does not work."""
    if arguments.device in (None, "cpu") or str(arguments.bundle).endswith(".onnx"):
        return arguments.device
    from papez_lobes.devices import checked_device

    try:
        return checked_device(arguments.device)
    except UserError as error:
        _say(f"{str(error).partition(';')[0]}; the CPU is used")
        return "cpu"


def _set_budget(separator, source, budget):
    """Meet a budget on the beginning of a recording; returns the hyperparameters that do."""
    from papez_lobes.data.audio import open_audio
    from papez_lobes.inference.remote import fetched

    if source == STANDARD_INPUT:
        raise UserError("--mean-depth and --rtf are set on a file: name one instead of -")
    with fetched(source) as path, open_audio(
        path, separator.sample_rate, truncated="keep"
    ) as audio:
        beginning = next(audio.blocks(CALIBRATION_SECONDS * separator.sample_rate))
    setting = separator.set_budget(beginning, **budget)
    spread, factor = setting.spread, setting.real_time_factor
    measured = "" if factor is None else f", real-time factor {factor:.3f}"
    _say(f"depth set on {source}: mean {spread.mean:.2f} steps (sd {spread.sd:.2f}){measured}, "
         f"halting_bias {setting.bias:.3f}")
    return {"halting_bias": setting.bias}


def _separate_in_turn(batch_separator, recordings):
    """Separate recordings one after the other, with a bar of the seconds of each."""
    from tqdm import tqdm

    for number, recording in enumerate(recordings, start=1):
        name = recording.source
        if len(recordings) > 1:
            name = f"[{number}/{len(recordings)}] {name}"
        seconds = _seconds(recording.source)
        with tqdm(desc=name, total=seconds, unit=" s of audio", unit_scale=True, leave=False,
                  disable=None) as bar:
            outcome = batch_separator(recording, bar.update)
        yield outcome


def _seconds(source):
    """Duration of a recording; None if only reading it would tell."""
    from papez_lobes.data.audio import open_audio
    from papez_lobes.inference.remote import is_url

    if source == STANDARD_INPUT or is_url(source):
        return None
    try:
        with open_audio(source, truncated="keep") as audio:
            return audio.seconds
    except UserError:  # which is reported when it is separated
        return None


def _report(outcomes, count, arguments, output, together):
    """Print what became of each recording as it comes, and the failures at the end."""
    from tqdm import tqdm

    failed = []
    with tqdm(total=count, desc="separated", unit="file", disable=None if count > 1 and
              together else True, leave=False) as bar:
        for outcome in outcomes:
            bar.update()
            if outcome.status == "failed":
                failed.append(outcome.reason)
            for note in _notes(outcome, arguments):
                _say(f"{outcome.recording.source}: {note}")
            if arguments.json:
                tqdm.write(outcome.to_json(), file=output)
            elif outcome.report is not None:
                tqdm.write("\n".join(map(str, outcome.report.paths)), file=output)
    for reason in failed:
        print(f"papez separate: {reason}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {count} recordings could not be separated")


def _notes(outcome, arguments):
    """What a user should know about a recording's estimates, a line each."""
    if outcome.status == "skipped":
        return ["left out: its estimates exist"]
    report = outcome.report
    if report is None:
        return []
    notes = []
    if report.channels > 1:
        notes.append(f"its {report.channels} channels are averaged")
    if report.flaw:
        notes.append(f"{report.flaw}; what is there was separated")
    if arguments.keep_rate and report.sample_rate > report.model_rate:
        notes.append(f"the estimates hold nothing above {report.model_rate / 2000:g} kHz, which is "
                     "all that this model hears")
    if report.lone_voice:
        notes.append(f"probably one voice only, {report.lone_voice}: the others are "
                     f"{report.margin_db:.0f} dB softer")
    return notes


def _say(line):
    """A line on standard error that leaves progress bars in order."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
