"""Files of strangers: building the modules of a separator file, and nothing else.

HyperPyYAML can call any function and build any class, so that loading a file can run code. Here the
modules of separators are built without it. docs/security.md tells users.
"""

import importlib
import inspect
from functools import cache
from pathlib import Path

from hyperpyyaml.core import deref
from ruamel.yaml import YAML
from torch import nn

from papez_lobes.config.yaml_files import REFERENCE, plain, tag_of
from papez_lobes.errors import UserError

_NEW = "!new:"
_PRETRAINER = "!new:speechbrain.utils.parameter_transfer.Pretrainer"  # of every bundle
_PLAIN = {"", "!ref", "!tuple", *(f"tag:yaml.org,2002:{kind}" for kind in (
    "null", "bool", "int", "float", "str", "seq", "map"))}
# Modules whose `torch.nn.Module`s may be built. None of them reads a file or calls what it is given
# by name. Other lobes of SpeechBrain do, for example those that fetch models.
_MODULES = {
    "torch.nn",
    *(f"papez_lobes.{name}" for name in (
        "ablations", "block", "codec", "convolution", "halting", "masknet", "memory", "norms",
        "recurrent", "separator", "spectral", "speechbrain_fixes")),
    *(f"speechbrain.lobes.models.{name}" for name in (
        "conv_tasnet", "dual_path", "resepformer", "transformer.Conformer",
        "transformer.Transformer")),
    *(f"speechbrain.nnet.{name}" for name in (
        "CNN", "RNN", "activations", "attention", "dropout", "linear", "normalization",
        "pooling")),
}


def find_danger(tree: dict) -> str | None:
    """What in a file's nodes could run code, in words that name the node; None if nothing could.

    Example
    -------
    >>> tree = YAML().load("num_spks: 2\\nMaskNet: {attack: !apply:os.system [ls]}")
    >>> find_danger(tree)
    "MaskNet.attack is '!apply:os.system', which could run code"
    """
    waiting, seen = [("", tree)], set()
    while waiting:
        where, node = waiting.pop()
        tag = tag_of(node)
        if tag == _PRETRAINER and {*_options(node)} <= {"loadables"}:
            pass  # with paths or hooks of its own it would fetch files or call functions
        elif not (_kind(tag) if tag.startswith(_NEW) else tag in _PLAIN):
            return f"{where or 'the file'} is {tag!r}, which could run code"
        if isinstance(node, (dict, list)):
            if id(node) in seen:
                return f"{where} is a YAML alias, which can be of unlimited size"
            seen.add(id(node))
        if isinstance(node, dict):
            for key, value in node.items():
                name = f"{where}.{key}".lstrip(".")
                waiting += [(name, key), (name, value)]
        elif isinstance(node, list):
            waiting += [(f"{where}.{index}", item) for index, item in enumerate(node)]
    return None


def build_lobes(tree: dict) -> dict:
    """What HyperPyYAML would build from the nodes of a file in which there is no danger."""
    values = Builder(tree)
    return {key: values.of(node) for key, node in tree.items() if not str(key).startswith("__")}


def check_trust(tree: dict, path: str | Path, trust: bool = False) -> str | None:
    """Refuse a file that could run code, unless it is trusted; returns what `find_danger` does.

    Raises UserError that names the file, the node, and the option that loads it all the same.
    """
    danger = find_danger(tree)
    if danger and not trust:
        raise UserError(f"{path}: {danger}; if you trust its author, load it with trust=True "
                        "(--trust)")
    return danger


def _options(node):
    """The options of a node that builds a class: none if the node is empty, as `!new:NAME` is."""
    if isinstance(node, dict):
        return node
    return {"arguments"} if isinstance(node, list) or getattr(node, "value", "") else {}


class Builder:
    """Builds nodes, each of them once. ValueError and TypeError say why one cannot be built."""

    def __init__(self, tree: dict):
        self._tree, self._built, self._unfinished = tree, {}, set()

    def of(self, node):
        """What a node describes."""
        if not isinstance(node, (dict, list)) and not tag_of(node):
            return plain(node)
        if id(node) not in self._built:
            if id(node) in self._unfinished:
                raise ValueError("a !ref refers to itself")
            self._unfinished.add(id(node))
            self._built[id(node)] = self._build(node, tag_of(node))
        return self._built[id(node)]

    def _build(self, node, tag):
        """Build a node that is not a plain value."""
        if tag == "!ref":
            whole = REFERENCE.fullmatch(node.value)
            if not whole:
                raise ValueError(f"!ref {node.value} is not a value")
            found = deref(whole[1], self._tree)
            if "." in whole[1]:  # HyperPyYAML would call a function
                raise ValueError(f"!ref {node.value} refers to an attribute")
            return self.of(found)
        if tag == "!tuple":
            return tuple(YAML(typ="safe").load(f"[{node.value[1:-1]}]"))
        if isinstance(node, dict):
            content = {key: self.of(value) for key, value in node.items()}
        elif isinstance(node, list):
            content = [self.of(item) for item in node]
        else:
            content = node.value  # of a tagged scalar
        if not tag.startswith(_NEW):
            return content
        kind = _kind(tag)
        if kind is None:
            raise ValueError(f"{tag!r} is no module of a separator")
        arguments = content if isinstance(content, list) else []
        options = content if isinstance(content, dict) else {}
        try:
            return kind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"invalid argument to {tag.removeprefix(_NEW)}: {error}") from error


@cache
def _kind(tag):
    """The class of a tag, if it is a module of `_MODULES`; or None."""
    home, _, name = tag.removeprefix(_NEW).rpartition(".")
    if home not in _MODULES:
        return None
    kind = getattr(importlib.import_module(home), name, None)
    if not inspect.isclass(kind) or not issubclass(kind, nn.Module):
        return None
    ours = kind.__module__ in _MODULES or kind.__module__.startswith("torch.nn.modules.")
    return kind if ours else None
