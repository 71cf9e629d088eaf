"""Score a separator on a test set: SI-SNR, SDR, PESQ, STOI, depth and speed, and show the worst."""

import os
import shlex
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.config.separator_files import PARTS
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.data.manifests import SPLITS
from papez_lobes.devices import checked_device
from papez_lobes.errors import UserError
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.evaluation.reference_metrics import MEASURES, available
from papez_lobes.evaluation.results import check_folder, write_evaluation
from papez_lobes.evaluation.summary import provenance, summarise
from papez_lobes.inference.bundle import HYPERPARAMS, bundle_folder, is_bundle, load_bundle
from papez_lobes.precision import DTYPES, lower_precision


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("bundle", help="folder of a separator: a bundle, or any that SpeechBrain's "
                        "SepformerSeparation loads; or the name of one that comes with the package")
    parser.add_argument("data", help="a manifest (CSV with ID, mix_wav, s1_wav, ...), or a tree in "
                        "WSJ0-mix's layout (.../2speakers)")
    parser.add_argument("--out", metavar="FOLDER", help="for results.csv, summary.json, summary.md "
                        "and evaluation.html (default: results/evaluation/<bundle>)")
    parser.add_argument("--split", choices=SPLITS, default="tt", help="of a tree (default tt)")
    parser.add_argument("--version", choices=("min", "max"), default="min",
                        help="of a tree (default min)")
    parser.add_argument("--measures", nargs="*", choices=MEASURES,
                        help="beside SI-SNR (default: all whose packages are installed)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KNOB=VALUE", dest="knobs",
                        help="knobs of the bundle, e.g. max_depth=4 halting_bias=-1")
    parser.add_argument("--group-by", metavar="REGEX",
                        help="report groups apart: what the expression finds in an ID")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N mixtures")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1), metavar="N",
                        help="processes that measure (default: one less than there are processors)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="what it computes in: "
                        "half precision by autocast, int8 for linear maps on a CPU")


def run(arguments):
    """Evaluate, print the table, and say where everything is."""
    for name in ("limit", "jobs"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise UserError(f"{name} {value}: must be 1 or more")
    summarise([], arguments.group_by)  # a broken expression shows before the work
    model = load_model(arguments.bundle, _knobs(arguments.knobs), arguments.device,
                       arguments.dtype)
    num_spks, sample_rate = model.hparams.num_spks, model.hparams.sample_rate
    measures = available(arguments.measures, sample_rate)
    name = Path(arguments.bundle).resolve().name
    out = Path(arguments.out or Path("results/evaluation", name))
    check_folder(out)
    manifest = find_manifest(arguments.data, out / "manifests", model.hparams, arguments.split,
                             arguments.version)
    evaluation = evaluate(model.mods, manifest, num_spks, sample_rate, model.device, measures,
                          arguments.jobs, arguments.limit)
    about = provenance(
        bundle_folder(arguments.bundle), command=shlex.join(["papez", *sys.argv[1:]]),
        knobs=arguments.knobs, data=str(arguments.data), device=model.device,
        dtype=arguments.dtype, jobs=arguments.jobs,
    )
    print(write_evaluation(evaluation, about, out, arguments.group_by))


def load_model(folder, knobs, device, dtype="float32"):
    """A bundle of ours, or anything else that SpeechBrain's interface loads from a folder."""
    folder = bundle_folder(folder)
    if not (folder / HYPERPARAMS).is_file():
        raise UserError(f"{folder}: no such bundle; name a folder with {HYPERPARAMS}")
    if is_bundle(folder):
        return load_bundle(folder, knobs, device, dtype)
    device = checked_device(device)
    with tempfile.TemporaryDirectory() as savedir:
        try:
            model = SepformerSeparation.from_hparams(
                source=str(folder.resolve()), savedir=savedir, overrides=knobs,
                run_opts={"device": str(device)},
            )
        except Exception as error:  # whatever foreign constructors raise
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"{folder}: SpeechBrain cannot load it: {line}") from error
    for name in ("num_spks", "sample_rate"):
        if not hasattr(model.hparams, name):
            raise UserError(f"{folder}: its {HYPERPARAMS} has no '{name}'; add it")
    for part in PARTS:
        if part not in model.mods:
            raise UserError(f"{folder}: the modules of its {HYPERPARAMS} have no '{part}'; a model "
                            f"of {', '.join(PARTS)} can be evaluated")
    lower_precision(model.mods, dtype, device)
    return model


def find_manifest(data, folder, hparams, split="tt", version="min"):
    """`data` itself if it is a manifest, or one made in `folder` of a tree in WSJ0-mix's layout,
    with the number of speakers and the rate of a model's `hparams`."""
    data = Path(data)
    if data.suffix == ".csv" or data.is_file():
        return data
    manifests = prepare_wsj0mix(data, folder, hparams.num_spks, hparams.sample_rate, version,
                                splits=(split,))
    return manifests[split]


def _knobs(words):
    """['max_depth=4'] as {'max_depth': 4}."""
    knobs = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            knobs[name] = YAML(typ="safe").load(value)
        except YAMLError:
            equals = ""
        if not name or not equals or not value.strip():
            raise UserError(f"--set {word}: write it as knob=value, e.g. max_depth=4")
    return knobs
