"""Separator files: the HyperPyYAML that says what is built, and the knobs that users may set."""

import difflib
import io
import re
from pathlib import Path

from hyperpyyaml.core import load_hyperpyyaml, recursive_resolve
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from papez_lobes.config.checks import check_knobs
from papez_lobes.errors import UserError
from papez_lobes.resources import resource_folder

PARTS = {"encoder": "Encoder", "masknet": "MaskNet", "decoder": "Decoder"}  # module: YAML node
_NEEDED = ("num_spks", "sample_rate", *PARTS.values())  # by SpeechBrain's interface
# what the constructors named in a file may raise on values that they do not take
_BUILDING = (
    ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError, ImportError, OSError,
    YAMLError,
)


def separator_file(name_or_path):
    """The YAML file of a separator.

    Arguments
    ---------
    name_or_path : str or pathlib.Path
        A name, such as 'papez' (a file of the project's `hparams`), or the path of a file.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    UserError
        If there is no such file; names those that there are.

    Example
    -------
    >>> separator_file("papez").name
    'papez.yaml'
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UserError(f"{path}: no such file; name one, or one of: {', '.join(_separators())}")
    separators = _separators()
    if str(name_or_path) not in separators:
        raise UserError(f"{name_or_path}: no such separator; there are: {', '.join(separators)}")
    return separators[str(name_or_path)]


def separator_names():
    """The names that `separator_file` knows, sorted.

    Example
    -------
    >>> "papez" in separator_names()
    True
    """
    return list(_separators())


def read_knobs(path):
    """The knobs of a separator file or of a bundle's `hyperparams.yaml`: what users may set.

    Knobs are the top-level plain values and lists of them; `!ref`s to knobs are knobs too. What
    has another tag (`!new:`, `!name:`, ...) is built from knobs and is none.

    Arguments
    ---------
    path : str or pathlib.Path
        The YAML file.

    Returns
    -------
    dict
        Name to value, in the file's order, `!ref`s resolved.

    Raises
    ------
    UserError
        If the file cannot be read or is no HyperPyYAML.

    Example
    -------
    >>> knobs = read_knobs(separator_file("papez"))
    >>> knobs["num_steps"], knobs["max_depth"], "Encoder" in knobs
    (16, 16, False)
    """
    tree = _read_tree(path)
    return {key: value for key, value in _resolve(tree, path).items() if _is_knob(tree[key], value)}


def set_knobs(path, knobs, drop=()):
    """The text of a separator file with knobs set; comments, tags and `!ref`s stay.

    Arguments
    ---------
    path : str or pathlib.Path
        The YAML file.
    knobs : dict
        Resolved values; knobs not named keep the file's. A knob that is a `!ref` stays one where
        it then gives the wanted value, so that a later override of what it refers to reaches it.
    drop : iterable of str
        Top-level keys to leave out, where the file has them.

    Returns
    -------
    str

    Raises
    ------
    UserError
        If the file is no separator file, or has no such knob.

    Example
    -------
    >>> text = set_knobs(separator_file("papez"), {"num_steps": 8, "max_depth": 8})
    >>> [line.split(" # ")[0].strip() for line in text.splitlines() if line.startswith("max_")]
    ['max_depth: !ref <num_steps>']
    """
    tree, known = _read_tree(path), read_knobs(path)
    _check_needed(tree, path)
    _check_known(knobs, known, path)
    for key in drop:
        tree.pop(key, None)
    # plain values first; then the references in the file's order, as they are resolved
    for key in sorted(known.keys() & knobs.keys(), key=lambda key: _order(key, tree)):
        value = _plain(knobs[key])
        if not _is_value(value):
            raise UserError(
                f"{path}: '{key}' is {value!r}: a knob is a number, text, True, False or a list"
            )
        now = _resolve(tree, path)[key] if _tag(tree[key]) == "!ref" else known[key]
        if (type(now), now) != (type(value), value):
            tree[key] = value
    return _dump(tree)


def build_modules(path, knobs=None):
    """Build the untrained Encoder, MaskNet and Decoder of a separator file or bundle.

    Arguments
    ---------
    path : str or pathlib.Path
        The YAML file.
    knobs : dict, optional
        Values for some of its knobs.

    Returns
    -------
    dict
        `encoder`, `masknet` and `decoder`, as `papez_lobes.separator.separate` takes them.

    Raises
    ------
    UserError
        If the file has no such knob, or if it cannot be built with these values.

    Example
    -------
    >>> sorted(build_modules(separator_file("papez"), {"num_steps": 2}))
    ['decoder', 'encoder', 'masknet']
    """
    hparams = load_hparams(path, knobs)
    return {part: hparams[node] for part, node in PARTS.items()}


def has_parts(path):
    """Whether a YAML file has the nodes of a separator: Encoder, MaskNet and Decoder.

    Example
    -------
    >>> has_parts(separator_file("papez"))
    True
    """
    return set(PARTS.values()) <= set(_read_tree(path))


def load_hparams(path, knobs=None):
    """As `build_modules`, but all that the file holds."""
    known = read_knobs(path)
    _check_known(knobs or {}, known, path)
    try:
        check_knobs(known | dict(knobs or {}))
        with open(path, encoding="utf-8") as stream:
            hparams = load_hyperpyyaml(stream, dict(knobs or {}))
    except _BUILDING as error:
        raise UserError(f"{path}: {_one_line(error)}") from error
    _check_needed(hparams, path)
    return hparams


def _separators():
    """Name to path of the project's separator files."""
    folder = resource_folder("hparams")
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {
        name: path for name, path in files.items()
        if re.search("^Encoder:", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def _yaml():
    """A YAML that writes back what it read: comments, tags, quotes and the house's style."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width, yaml.boolean_representation = True, 4096, ["False", "True"]
    yaml.indent(mapping=4, sequence=4, offset=2)
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar(null, "null"))
    return yaml


def _dump(tree):
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def _read_tree(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        tree = _yaml().load(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # ruamel's own errors, and bytes that are no text
        raise UserError(f"{path}: not a YAML file: {_one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not a separator file: its top level is not 'key: value'")
    return tree


def _resolve(tree, path):
    """All top-level values, `!ref`s resolved in the file's order, plain ones as plain Python."""
    values = dict(tree)
    for key, node in tree.items():
        if _tag(node) == "!ref":
            try:
                values[key] = recursive_resolve(node.value, [], values)
            except ValueError as error:
                raise UserError(f"{path}: '{key}': {_one_line(error)}") from error
    return {key: _plain(value) for key, value in values.items()}


def _plain(value):
    """ruamel's scalars and lists, which remember their spelling, as Python's."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list) and _tag(value) is None:
        return [_plain(item) for item in value]
    return value


def _tag(node):
    return getattr(getattr(node, "tag", None), "value", None)


def _is_value(value):
    """Whether a knob may have this value."""
    if type(value) is list:
        return all(map(_is_value, value))
    return value is None or type(value) in (bool, int, float, str)


def _is_knob(node, resolved):
    return _tag(node) in (None, "!ref") and _is_value(resolved)


def _check_known(names, known, path):
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"{path}: there is no knob '{name}'{hint}")


def _check_needed(keys, path):
    for name in _NEEDED:
        if name not in keys:
            raise UserError(f"{path}: not a separator file: '{name}' is missing")


def _order(key, tree):
    return _tag(tree[key]) == "!ref", list(tree).index(key)


def _one_line(error):
    return " ".join(" ".join(map(str, error.args or [error])).split())
