"""Score a separator on a test set: SI-SNR, leakage, SDR, PESQ, STOI, depth and speed."""

import argparse
import os
import shlex
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from papez_lobes.cli.options import add_device, add_dtype, add_overwrite, add_trust
from papez_lobes.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez evaluate`."""
    add = parser.add_argument
    add("bundle", help="folder of a bundle, or of any model that SpeechBrain's "
        "SepformerSeparation loads, or a name that `papez list` shows")
    add("data", help="a manifest (CSV with ID, mix_wav, s1_wav, ...), or a tree in WSJ0-mix's "
        "layout (.../2speakers)")
    add("--out", metavar="FOLDER", help="where results.csv, summary.json, summary.md and "
        "evaluation.html are written (default: results/evaluation/<bundle>)")
    add_overwrite(parser)
    add("--split", default="tt", help="split of a tree: tr, cv or tt (default: tt)")
    add("--version", choices=("min", "max"), default="min",
        help="version of a tree (default: min)")
    add("--measures", nargs="*", metavar="MEASURE", help="sdr, pesq or stoi, besides SI-SNR and "
        "leakage (default: all whose packages are installed)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides",
        help="hyperparameters of the bundle, e.g. max_depth=4 halting_bias=-1")
    add("--group-by", metavar="REGEX", help="also report groups of mixtures, named by what this "
        "expression matches in an ID")
    add("--limit", type=int, metavar="N", help="evaluate only the first N mixtures")
    add("-j", "--jobs", type=int, metavar="N", help="processes that compute measures "
        "(default: one less than there are processors; with --ray as many as there are cores)")
    add("--ray", metavar="local|ADDRESS", help="compute measures on a Ray cluster, see "
        "docs/scale.md; needs `pip install papez-lobes[ray]`")
    add_device(parser)
    add_dtype(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, print the table, and say where the files are."""
    from papez_lobes.devices import checked_device
    from papez_lobes.evaluation.averages import summarise
    from papez_lobes.evaluation.evaluate import evaluate
    from papez_lobes.evaluation.output_files import check_folder, write_evaluation
    from papez_lobes.evaluation.provenance import provenance
    from papez_lobes.evaluation.reference_metrics import available
    from papez_lobes.inference.shipped import bundle_folder

    for name in ("limit", "jobs"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise UserError(f"{name} {value}: must be 1 or more")
    summarise([], arguments.group_by)  # reports a wrong expression before the work
    out = Path(arguments.out or Path("results/evaluation", Path(arguments.bundle).resolve().name))
    check_folder(out, arguments.overwrite)
    overrides, device = _parse_overrides(arguments.overrides), checked_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder, _open_pool(arguments) as pool:
        separator, num_spks, sample_rate = load_model(
            arguments.bundle, overrides, device, arguments.dtype, arguments.trust)
        measures = available(arguments.measures, sample_rate)
        if pool is None:
            jobs = arguments.jobs or max(1, (os.cpu_count() or 2) - 1)
        else:
            jobs = pool.size
        manifest = find_manifest(arguments.data, folder, num_spks, sample_rate, arguments.split,
                                 arguments.version)
        evaluation = evaluate(separator, manifest, num_spks, sample_rate, device, measures, jobs,
                              arguments.limit, pool=pool)
    about = provenance(
        bundle_folder(arguments.bundle), command=shlex.join(["papez", *sys.argv[1:]]),
        overrides=arguments.overrides, data=str(arguments.data), device=device,
        dtype=arguments.dtype, jobs=jobs,
    )
    print(write_evaluation(evaluation, about, out, arguments.group_by))


@contextmanager
def _open_pool(arguments):
    """The pool of --ray; None without it."""
    if arguments.ray is None:
        yield None
        return
    from papez_lobes.inference.ray_pool import open_pool

    # Ray prints messages of its own
    with redirect_stdout(sys.stderr), open_pool(arguments.ray, arguments.jobs) as pool:
        yield pool


def load_model(folder: str, overrides: dict, device: str, dtype: str = "float32",
               trust: bool = False):
    """Load a bundle, or another model that SpeechBrain's interface loads from a folder.

    `folder` may be the name of a bundle that comes with the package; `overrides`, `device`,
    `dtype` and `trust` are as for `papez_lobes.inference.bundle.load_bundle`. Returns the
    Separator, its number of speakers, and its sampling rate in Hz. Raises UserError if the model
    cannot be loaded, could run code, or lacks a module or value that is needed to evaluate it.
    """
    from papez_lobes.config.separator_files import PARTS
    from papez_lobes.config.trust import check_trust
    from papez_lobes.config.yaml_files import read_tree
    from papez_lobes.fast.precision import lower_precision
    from papez_lobes.inference.bundle import is_bundle, load_modules, missing_bundle
    from papez_lobes.inference.shipped import HYPERPARAMS, bundle_folder
    from papez_lobes.separator import Separator

    folder = bundle_folder(folder)
    if is_bundle(folder):
        modules, hparams = load_modules(folder, overrides, device, dtype, trust)
        return Separator.of(modules), hparams["num_spks"], hparams["sample_rate"]
    file = folder / HYPERPARAMS
    if not file.is_file() or is_bundle(folder / "bundle"):
        raise missing_bundle(folder)
    tree = read_tree(file)
    if check_trust(tree, file, trust):
        modules, hparams = _load_by_speechbrain(folder, overrides)
    else:
        modules, hparams = _load_safely(folder, tree, overrides)
    for name in ("num_spks", "sample_rate"):
        if name not in hparams:
            raise UserError(f"{folder}: its {HYPERPARAMS} has no '{name}'; add it")
    for part in PARTS:
        if part not in modules:
            raise UserError(f"{folder}: the modules of its {HYPERPARAMS} have no '{part}'; a model "
                            f"of {', '.join(PARTS)} can be evaluated")
    separator = Separator.of(modules).to(device).eval().requires_grad_(False)
    lower_precision(separator.parts, dtype, device)
    return separator, hparams["num_spks"], hparams["sample_rate"]


def _load_by_speechbrain(folder, overrides):
    """Modules and values of a trusted model, whose hyperparams.yaml may do anything."""
    from speechbrain.inference.separation import SepformerSeparation  # which takes seconds

    try:
        # without a savedir, the folder is read in place: no symlinks, which not all systems allow
        model = SepformerSeparation.from_hparams(source=str(folder.resolve()), overrides=overrides)
    except Exception as error:  # constructors of other projects may raise anything
        raise UserError(f"{folder}: SpeechBrain cannot load it: {_line(error)}") from error
    return dict(model.mods), vars(model.hparams)


def _load_safely(folder, tree, overrides):
    """The same of a model in which there is no danger, without HyperPyYAML and unpickling."""
    from papez_lobes.config.separator_files import FOR_SPEECHBRAIN, set_options
    from papez_lobes.config.trust import build_lobes
    from papez_lobes.inference.bundle import load_states, read_checkpoint
    from papez_lobes.inference.shipped import HYPERPARAMS

    file, (modules, pretrainer) = folder / HYPERPARAMS, FOR_SPEECHBRAIN
    for name in FOR_SPEECHBRAIN:
        if name not in tree:
            raise UserError(f"{file}: has no {name!r}, by which SpeechBrain would load it")
    loadables = tree[pretrainer]
    tree[pretrainer] = loadables.get("loadables", {}) if isinstance(loadables, dict) else {}
    set_options(tree, file, overrides)
    try:
        found = build_lobes(tree)
    except Exception as error:  # a module raises nearly anything
        raise UserError(f"{file}: {_line(error)}") from error
    states = {name: read_checkpoint(folder / f"{name}.ckpt") for name in found[pretrainer]}
    load_states(folder, states, found[pretrainer], HYPERPARAMS)
    return found[modules], found


def _line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


def find_manifest(data: str | Path, folder: str | Path, num_spks: int, sample_rate: int,
                  split: str = "tt", version: str = "min") -> Path:
    """Return `data` if it is a manifest; else make one, in `folder`, of the tree that it is."""
    from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix

    data = Path(data)
    if data.suffix == ".csv" or data.is_file():
        return data
    return prepare_wsj0mix(data, folder, num_spks, sample_rate, version, splits=(split,))[split]


def _parse_overrides(words):
    """['max_depth=4'] as {'max_depth': 4}."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    overrides = {}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            overrides[key] = YAML(typ="safe").load(value)
        except YAMLError:
            equals = ""
        if not key or not equals or not value.strip():
            raise UserError(f"--set {word}: write it as key=value, e.g. max_depth=4")
    return overrides
