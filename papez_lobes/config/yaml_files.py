"""HyperPyYAML files: reading them, filling in references, building and writing."""

import ast
import io
import re
from contextlib import suppress
from pathlib import Path

import ruamel.yaml
import yaml
from hyperpyyaml.core import deref, load_hyperpyyaml, resolve_references
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from papez_lobes.errors import UserError

REFERENCE = re.compile(r"<([^<>]+)>")
NO_VALUE = (ValueError, TypeError, KeyError, RecursionError)  # what `value_of` raises without one
ARITHMETIC = (ast.Expression, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
# HyperPyYAML itself does so after its first file is written out: there, text in parentheses would
# be written without quotes, and read back as a tuple.
ruamel.yaml.Loader.add_implicit_resolver("!tuple", re.compile(r"^\(.*\)$"), first="(")


def read_tree(path: str | Path) -> dict:
    """The nodes of a HyperPyYAML file, with comments, tags and quotes; nothing is built.

    UserError if the file is missing, cannot be read, or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a YAML file, e.g. hparams/papez.yaml")
    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except Exception as error:  # bytes that are no text raise nearly anything
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys; a HyperPyYAML file is a mapping")
    return tree


def dump(tree: dict) -> str:
    """The text of a HyperPyYAML file."""
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def resolve(tree: dict, path: str | Path) -> dict:
    """The nodes with all references replaced; UserError, naming the file, if one is wrong."""
    return _yaml().load(_call(resolve_references, tree, path).getvalue())


def build(tree: dict, path: str | Path) -> dict:
    """What the nodes describe, built; UserError, naming the file, if a constructor fails."""
    return _call(load_hyperpyyaml, tree, path)


def fill_in(node, tree: dict | None = None):
    """Replace references to plain values by these values, in place; return the tree.

    HyperPyYAML is left with references to what is built. It would take names of folders for
    arithmetic ("1/0"), arithmetic with negative numbers for text, and exponents in tuples too.

    Example
    -------
    >>> tree = _yaml().load("a: -1e-5\\nb: !ref <a> * 2\\nc: [!ref <b>]\\nd: !ref out/<a>")
    >>> dict(fill_in(tree))
    {'a': -1e-05, 'b': -2e-05, 'c': [-2e-05], 'd': 'out/-1e-05'}
    """
    tree = node if tree is None else tree
    if isinstance(node, dict):
        for key in node:
            node[key] = fill_in(node[key], tree)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            node[index] = fill_in(item, tree)
    elif tag_of(node) == "!ref":
        try:
            return value_of(node, tree)
        except NO_VALUE:
            return node  # of something that is built, or wrong: HyperPyYAML says so
    elif tag_of(node) == "!tuple":
        # HyperPyYAML reads it by YAML 1.1, where 1e-5 is text and 1.0e-05 a number
        with suppress(YAMLError):  # HyperPyYAML says what is wrong
            items = ruamel.yaml.YAML(typ="safe").load(f"[{node.value[1:-1]}]")
            text = yaml.safe_dump(items, default_flow_style=True, width=4096).strip()
            node.value = f"({text[1:-1]})"
    return node


def value_of(node, tree: dict):
    """The plain value that a node stands for; ValueError if it stands for something built."""
    if tag_of(node) == "!ref":
        whole = REFERENCE.fullmatch(node.value)
        if whole:
            return value_of(deref(whole[1], tree), tree)
        names = REFERENCE.findall(node.value)
        values = {name: value_of(deref(name, tree), tree) for name in names}
        text = REFERENCE.sub(lambda match: str(values[match[1]]), node.value)
        return text if any(isinstance(v, str) for v in values.values()) else _calculate(text)
    if tag_of(node) or isinstance(node, dict):
        raise ValueError("not a plain value")
    if isinstance(node, list):
        return [value_of(item, tree) for item in node]
    return plain(node)


def tag_of(node) -> str:
    """The tag of a node, such as '!ref' or '!new:torch.nn.ReLU'; '' if it has none."""
    return getattr(getattr(node, "tag", None), "value", None) or ""


def plain(value):
    """ruamel.yaml's numbers, texts and lists, which remember their spelling, as Python's."""
    for kind in (bool, int, float, str):  # in this order, since a bool is an int too
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list) and not tag_of(value):
        return [plain(item) for item in value]
    return value


def is_plain(value) -> bool:
    """True if a value is None, a number, a flag, a text, or a list of these."""
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {' '.join(error.problem.split())}"
    return " ".join(" ".join(map(str, error.args or [error])).split()) or type(error).__name__


def _yaml():
    """A reader and writer that keeps comments, tags, quotes and the project's style."""
    keeper = ruamel.yaml.YAML()
    keeper.preserve_quotes = True
    keeper.width = 4096
    keeper.boolean_representation = ["False", "True"]
    keeper.indent(mapping=4, sequence=4, offset=2)
    null = "tag:yaml.org,2002:null"
    keeper.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar(null, "null")
    )
    return keeper


def _call(function, tree, path):
    stream = io.StringIO(dump(tree))
    stream.name = str(path)  # HyperPyYAML looks for included files beside it
    try:
        return function(stream)
    except Exception as error:  # HyperPyYAML hands on whatever a constructor raises
        raise UserError(f"{path}: {one_line(error)}") from error


def _calculate(text):
    """The number that an arithmetic expression gives; the text itself if it is none."""
    try:
        expression = ast.parse(text.strip(), mode="eval")
        if all(isinstance(node, ARITHMETIC) for node in ast.walk(expression)):
            return eval(compile(expression, "YAML", "eval"))
    except (SyntaxError, ValueError, TypeError, ArithmeticError):
        pass
    return text
