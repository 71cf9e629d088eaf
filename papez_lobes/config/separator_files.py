"""Separator files: the HyperPyYAML that describes a separator and its hyperparameters.

A hyperparameter is a top-level plain value of the file, a list of plain values, or a `!ref` to one.
Nodes with another tag (`!new:`, `!name:`) are built from hyperparameters.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import nn

from papez_lobes.config import yaml_files
from papez_lobes.config.checks import check_heads, check_known, find_option
from papez_lobes.config.trust import build_lobes, check_trust
from papez_lobes.errors import UserError
from papez_lobes.resources import resource_folder

BUNDLE_FORMAT = "bundle_format"  # of a bundle's hyperparams.yaml: no hyperparameter
PARTS = {"encoder": "Encoder", "masknet": "MaskNet", "decoder": "Decoder"}  # module: YAML node
FOR_SPEECHBRAIN = ("modules", "pretrainer")  # nodes of a bundle that its loader needs


def separator_file(name_or_path: str | Path) -> Path:
    """The YAML file of a separator, by its path or a name such as 'papez' (in `hparams`).

    Raises UserError, which names the separators that there are, if there is no such file.

    Example
    -------
    >>> separator_file("papez").name
    'papez.yaml'
    """
    path = Path(name_or_path)
    separators = separator_names()
    if str(name_or_path) in separators:
        return separators[str(name_or_path)]
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{name_or_path}: no such separator; there are: {', '.join(separators)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; name one, or one of: {', '.join(separators)}")
    return path


def separator_names() -> dict[str, Path]:
    """The names that `separator_file` knows, sorted, and their files."""
    return {
        path.stem: path for path in sorted(resource_folder("hparams").glob("*.yaml"))
        if re.search("^Encoder:", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def read_hyperparameters(path: str | Path) -> dict:
    """The hyperparameters of a separator file or of a bundle's `hyperparams.yaml`.

    Returns name to value, in the file's order, with references filled in. UserError if the file
    cannot be read, or is not HyperPyYAML.

    Example
    -------
    >>> hyperparameters = read_hyperparameters(separator_file("papez"))
    >>> hyperparameters["num_steps"], hyperparameters["max_depth"], "Encoder" in hyperparameters
    (16, 16, False)
    """
    return hyperparameters_of(yaml_files.read_tree(path))


def hyperparameters_of(tree: Mapping) -> dict:
    """Like `read_hyperparameters`, from the nodes of a file."""
    values = {}
    for key, node in tree.items():
        with suppress(*yaml_files.NO_VALUE):
            value = yaml_files.value_of(node, tree)
            if yaml_files.is_plain(value) and key != BUNDLE_FORMAT:
                values[key] = value
    return values


def set_hyperparameters(
    path: str | Path, hyperparameters: Mapping, drop: Iterable[str] = ()
) -> str:
    """The text of a separator file with hyperparameters set; comments, tags and `!ref`s stay.

    Arguments
    ---------
    path : str or pathlib.Path
        The YAML file.
    hyperparameters : mapping
        Values of the hyperparameters that change. A `!ref` stays where it gives the wanted value,
        so that it still follows what it refers to.
    drop : iterable of str
        Top-level keys to leave out, where the file has them.

    Returns
    -------
    str
        UserError if the file is not a separator file, or has no such hyperparameter.

    Example
    -------
    >>> text = set_hyperparameters(separator_file("papez"), {"num_steps": 8, "max_depth": 8})
    >>> [line.split(" # ")[0].strip() for line in text.splitlines() if line.startswith("max_")]
    ['max_depth: !ref <num_steps>']
    """
    tree = yaml_files.read_tree(path)
    known = hyperparameters_of(tree)
    _check_needed(tree, path)
    for key in hyperparameters:
        check_known(key, known, str(path))
    for key in drop:
        tree.pop(key, None)
    # plain values first: a reference is compared with what it then gives
    for key in sorted(hyperparameters, key=lambda key: yaml_files.tag_of(tree[key]) == "!ref"):
        value, now = yaml_files.plain(hyperparameters[key]), yaml_files.value_of(tree[key], tree)
        if not yaml_files.is_plain(value):
            raise UserError(f"{path}: {key} is {value!r}: it must be a number, text, True, False, "
                            "null or a list")
        if (type(now), now) != (type(value), value):
            tree[key] = value
    return yaml_files.dump(tree)


def set_options(tree: dict, path: str | Path, options: Mapping | None = None) -> None:
    """Set hyperparameters among the nodes of a separator file, in place, and fill in references.

    UserError if the file has no such hyperparameter, or one is out of its range.
    """
    options, known = dict(options or {}), hyperparameters_of(tree)
    for name in options:
        check_known(name, known, str(path))
    tree.update(options)
    yaml_files.fill_in(tree)
    values = {name: yaml_files.plain(tree[name]) for name in known}
    width = values.get("bottleneck_dim", values.get("N_encoder_out"))
    try:
        for name, value in values.items():
            find_option(name).check(name, value)
        if "num_heads" in values and width is not None:
            check_heads(values["num_heads"], width)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def build_modules(
    path: str | Path, hyperparameters: Mapping | None = None, trust: bool = False
) -> dict[str, nn.Module]:
    """Build the untrained Encoder, MaskNet and Decoder of a separator file or bundle.

    Arguments
    ---------
    path : str or pathlib.Path
        The YAML file.
    hyperparameters : mapping, optional
        Values for some of its hyperparameters.
    trust : bool
        True: the file may build any class and call any function, and so run any code. False: it may
        build the modules of `papez_lobes.config.trust` only.

    Returns
    -------
    dict
        `encoder`, `masknet` and `decoder`, as `papez_lobes.separator.Separator` takes them.
        UserError if there is no such hyperparameter, or they cannot be built with these values.

    Example
    -------
    >>> sorted(build_modules(separator_file("papez"), {"num_steps": 2}))
    ['decoder', 'encoder', 'masknet']
    """
    hparams = load_hparams(path, hyperparameters, trust)
    return {part: hparams[node] for part, node in PARTS.items()}


def load_hparams(
    path: str | Path, hyperparameters: Mapping | None = None, trust: bool = False
) -> dict:
    """Like `build_modules`, but returns all that the file holds, except `FOR_SPEECHBRAIN`."""
    tree = yaml_files.read_tree(path)
    danger = check_trust(tree, path, trust)
    for key in FOR_SPEECHBRAIN:  # importing its loader takes seconds
        tree.pop(key, None)
    set_options(tree, path, hyperparameters)
    _check_needed(tree, path)
    if danger:
        return yaml_files.build(tree, path)
    try:
        return build_lobes(tree)
    except Exception as error:  # a module raises nearly anything
        raise UserError(f"{path}: {yaml_files.one_line(error)}") from error


def _check_needed(keys, path):
    """Refuse a file that lacks what SpeechBrain's interface needs."""
    for name in ("num_spks", "sample_rate", *PARTS.values()):
        if name not in keys:
            raise UserError(f"{path}: not a separator file: {name!r} is missing")
