"""Files of strangers: what a HyperPyYAML file may build without being trusted.

HyperPyYAML can call any function and build any class, so that loading a file can run code. A file
that is not trusted may build the modules of separators only. docs/security.md tells users.
"""

import importlib
import inspect
from functools import cache

import ruamel.yaml
from torch import nn

from papez_lobes.config.yaml_files import tag_of

_NEW, _TUPLE = "!new:", "!tuple"
_PRETRAINER = "speechbrain.utils.parameter_transfer.Pretrainer"
_PLAIN = {"", None, *(f"tag:yaml.org,2002:{kind}" for kind in (
    "null", "bool", "int", "float", "str", "timestamp", "seq", "map"))}
_UNRESOLVED = {"!ref", "!copy", "!PLACEHOLDER"}  # HyperPyYAML replaces them before it builds
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


def check_trusted(root, resolved: bool = False) -> None:
    """Raise ValueError if building a tree of YAML nodes could do more than build modules.

    Arguments
    ---------
    root : dict or ruamel.yaml.nodes.Node
        The tree, as `read_tree` gives it or as a loader composes it.
    resolved : bool
        True if references are replaced. One node may then be in several places. Otherwise aliases
        are refused, as they can make a tree of unlimited size.
    """
    waiting, seen = [("", root)], set()
    while waiting:
        where, node = waiting.pop()
        children = list(_children(node))
        if children or _tag(node):
            if id(node) in seen:
                if resolved:
                    continue
                raise ValueError(f"{where} is a YAML alias (*); write it out, or use !ref")
            seen.add(id(node))
        if not _may_be_built(node, [key for key, _ in children], resolved):
            raise ValueError(
                f"{where or 'the file'} is {_tag(node)!r}, which could run code; if you trust the "
                "file's author, load it with trust=True"
            )
        for key, child in children:
            waiting.append((f"{where}.{key}".lstrip("."), child))


class CheckedLoader(ruamel.yaml.SafeLoader):
    """A loader for HyperPyYAML that checks the very nodes it is going to build."""

    def get_single_node(self):
        """The root of the document, once all of its nodes are checked."""
        root = super().get_single_node()
        check_trusted(root, resolved=True)
        return root


def _may_be_built(node, keys, resolved):
    """True if a node is plain, a reference, or a module of the ones that may be built."""
    tag = _tag(node)
    if tag.startswith(_NEW):
        name = tag.removeprefix(_NEW)
        # with paths or hooks of its own, SpeechBrain's Pretrainer would fetch files or call them
        return _is_lobe(name) or (name == _PRETRAINER and set(keys) <= {"loadables"})
    if tag == _TUPLE:  # HyperPyYAML reads its text by a loader that runs the tags there
        return "!" not in str(node.value)
    return tag in _PLAIN or (tag in _UNRESOLVED and not resolved)


@cache
def _is_lobe(path):
    """True if a dotted name is that of a class of `_MODULES`."""
    home, _, name = path.rpartition(".")
    if home not in _MODULES:
        return False
    kind = getattr(importlib.import_module(home), name, None)
    if not inspect.isclass(kind) or not issubclass(kind, nn.Module):
        return False
    return kind.__module__ in _MODULES or kind.__module__.startswith("torch.nn.modules.")


def _tag(node):
    """The tag of a node of either kind of tree."""
    tag = getattr(node, "tag", None)
    return tag if isinstance(tag, str) else tag_of(node)


def _children(node):
    """(key, child) of each child of a node, and of each key, which is a node too."""
    items = getattr(node, "value", node)
    if isinstance(items, dict):
        items = list(items.items())
    for index, item in enumerate(items if isinstance(items, list) else ()):
        key, child = item if isinstance(item, tuple) else (None, item)
        name = str(index if key is None else getattr(key, "value", key))
        if key is not None:
            yield name, key
        yield name, child
