"""From a command line to the objects of an experiment, with every key checked on the way.

An experiment file says HOW to train; its `separator:` node includes the file that says WHAT is
trained. HyperPyYAML refuses an unknown top-level override but takes an unknown nested one in
silence, so both are checked here, and a flag that only the separator file knows is handed on to
it: no knob has to be repeated in an experiment.
"""

import difflib
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from papez_lobes.config.checks import check_knobs
from papez_lobes.config.separator_files import read_knobs
from papez_lobes.config.values import check_values
from papez_lobes.devices import checked_device
from papez_lobes.errors import UserError

SEPARATOR_NODE = "separator"
INCLUDE = "!include:"
KINDS = {
    bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list",
}


@dataclass
class Experiment:
    """A loaded experiment.

    Arguments
    ---------
    file : pathlib.Path
        The experiment file.
    separator_file : pathlib.Path
        The separator file that it includes.
    hparams : dict
        What HyperPyYAML made of it.
    run_opts : speechbrain RunOptions
        SpeechBrain's own options (--device, --precision, --test_only, ...).
    overrides : dict
        What the command line changed, in the nesting that HyperPyYAML takes.
    """

    file: Path
    separator_file: Path
    hparams: dict = field(repr=False)
    run_opts: object = field(repr=False)
    overrides: dict

    @property
    def knobs(self):
        """The separator's knobs as resolved for this experiment: name -> plain value."""
        separator = self.hparams[SEPARATOR_NODE]
        return {name: separator[name] for name in read_knobs(self.separator_file)}


def load_experiment(argv=None):
    """Parse a SpeechBrain command line and build the experiment.

    Arguments
    ---------
    argv : list of str, optional
        `FILE [--key value]...`; `sys.argv[1:]` by default.

    Returns
    -------
    Experiment

    Raises
    ------
    UserError
        For a missing or broken file, an unknown key, a value of the wrong type, a missing
        placeholder, or knobs that do not fit together.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _check_words(argv)
    file, run_opts, overrides = sb.parse_arguments(argv)
    if run_opts.device is not None:
        checked_device(run_opts.device)
    if run_opts.device == "cpu" or not torch.cuda.is_available():
        # SpeechBrain's own choice, nccl, needs GPUs
        overridden = run_opts.overridden_args | {"distributed_backend"}
        run_opts = replace(run_opts, distributed_backend="gloo", overridden_args=overridden)
    file, overrides = Path(file), _parse_overrides(overrides)
    keys = _read_yaml(file)
    separator_file = _included(keys, file)
    knobs = read_knobs(separator_file)
    for name in keys[SEPARATOR_NODE] or ():
        _check(name, None, knobs, f"{file}, `{SEPARATOR_NODE}`")
    for name in _abbreviated(argv, overrides, run_opts):
        _check(name, None, {**keys, **knobs}, file)
        raise UserError(f"--{name} abbreviates an option of SpeechBrain's; write that in full")
    overrides = _nest(overrides, keys, knobs, file)
    try:
        check_knobs(knobs | overrides.get(SEPARATOR_NODE, {}))
        with open(file, encoding="utf-8") as stream:
            hparams = load_hyperpyyaml(stream, overrides)
    except Exception as error:  # HyperPyYAML hands on whatever a constructor raises
        raise UserError(f"{file}: {_cause(error)}") from error
    check_values(hparams, file)
    return Experiment(file, separator_file, hparams, run_opts, overrides)


def _check_words(argv):
    """Refuse a word that is no value of a flag: SpeechBrain glues it to the value before it."""
    value = None
    for word in argv[1:]:
        if word.startswith("--"):
            value = word.partition("=")[2] or None
        elif value is None:
            value = word
        elif value.count("[") + value.count("{") > value.count("]") + value.count("}"):
            value += word  # of a list that was written with spaces
        else:
            raise UserError(f"{word!r} stands after the value {value!r}; write --key value")


def _read_yaml(path):
    """Top-level keys of a HyperPyYAML file, tags kept, nothing built."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; name an experiment file, e.g. hparams/papez.yaml")
    try:
        keys = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {_cause(error)}") from error
    if not isinstance(keys, dict):
        raise UserError(f"{path}: holds no keys; a HyperPyYAML file is a mapping")
    return keys


def _tag(value):
    tag = getattr(value, "tag", None)
    return getattr(tag, "value", None) or ""


def _included(keys, file):
    tag = _tag(keys.get(SEPARATOR_NODE))
    if not tag.startswith(INCLUDE):
        raise UserError(
            f"{file}: has no `{SEPARATOR_NODE}: {INCLUDE}FILE` node; it is not an experiment file "
            "(a separator file from the top-level hparams/ is included by one, not run)"
        )
    return (file.parent / tag.removeprefix(INCLUDE)).resolve()


def _parse_overrides(text):
    """SpeechBrain's text of the options, a `key: value` a line; a later one wins."""
    overrides = {}
    for line in text.splitlines():
        try:
            overrides.update(YAML(typ="safe").load(line))
        except (YAMLError, TypeError, ValueError) as error:
            raise UserError(f"cannot read the option {line!r}: write --key value") from error
    return overrides


def _abbreviated(argv, overrides, run_opts):
    """Flags that argparse took for the beginning of one of SpeechBrain's own, e.g. --test."""
    flags = [word[2:].split("=")[0] for word in argv if word.startswith("--")]
    return [flag for flag in flags if flag not in overrides and flag not in run_opts.as_dict()]


def _nest(overrides, keys, knobs, file):
    """Overrides in HyperPyYAML's nesting: the separator's own knobs go under its node."""
    nested = {}
    for name, value in overrides.items():
        if name == SEPARATOR_NODE and isinstance(value, dict):
            for knob, inner in value.items():
                _check(knob, inner, knobs, f"{file}, `{SEPARATOR_NODE}`")
            nested.setdefault(SEPARATOR_NODE, {}).update(value)
        elif name in keys:
            _check(name, value, keys, file)
            nested[name] = value
        else:
            _check(name, value, {**keys, **knobs}, file)
            nested.setdefault(SEPARATOR_NODE, {})[name] = value
    return nested


def _check(name, value, keys, where):
    if name not in keys:
        near = difflib.get_close_matches(name, keys, n=1)
        hint = f"did you mean --{near[0]}?" if near else "see the file for what there is"
        raise UserError(f"{where}: there is no key {name!r}; {hint}")
    default = keys[name]
    if isinstance(default, dict) or _tag(default) not in ("", "!ref", "!PLACEHOLDER"):
        raise UserError(f"{where}: {name!r} is built by the file; change its knobs, or the file")
    if _tag(default) or default is None or value is None:
        return
    for kind, words in KINDS.items():
        if isinstance(default, kind):  # in this order: a bool is an int too
            wider = (int, float) if kind is float else kind
            if not isinstance(value, wider) or (isinstance(value, bool) and kind is not bool):
                raise UserError(f"{where}: {name} takes {words}, not {value!r}")
            return


def _cause(error):
    """The last line of an error's text: what a constructor said, without HyperPyYAML's frame."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
