"""The command line of an experiment: `FILE [--option value]...`, read before anything is built.

SpeechBrain's own parser joins all words to one YAML text, in which a path that holds ` #` is cut,
a value that follows a flag joins the option before it, and a prefix of an option counts as that
option. Here each option gets its own text, and is read as what it takes.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from papez_lobes.config import checks
from papez_lobes.config.checks import Option, check_known, find_option, parse_value
from papez_lobes.config.yaml_files import one_line, plain, tag_of
from papez_lobes.devices import checked_device
from papez_lobes.errors import UserError

WHERE = "command line"
SEPARATOR = "separator"
MODULE_LISTS = ("jit_module_keys", "compile_module_keys")  # take as many words as follow
NOT_COMPILED = {  # why, by SpeechBrain's option
    "jit": "TorchScript does not take these separators",
    "jit_module_keys": "TorchScript does not take these separators",
    "compile_module_keys": "--compile alone says what is compiled",
    "compile_mode": "--compile takes no further options",
    "compile_using_fullgraph": "--compile takes no further options",
    "compile_using_dynamic_shape_tracing": "--compile takes no further options",
}
HELP = HELP_TEXTS | {
    "compile": "On a GPU, compile what training computes in each step of the recurrence; the first "
               "batch takes half a minute then.",
}
USAGE = """usage: train.py FILE [--option value]...

All options of the experiment file and of its separator file can be given; name a file to see them.
--separator NAME_OR_FILE trains another separator. SpeechBrain's options:"""


def _run_option(name, hint):
    """What an option of SpeechBrain takes, by its annotation in `RunOptions`."""
    if name in checks.OPTIONS:
        return checks.OPTIONS[name]
    if get_origin(hint) is Literal:
        return Option(checks.TEXT, choices=get_args(hint))
    hints = get_args(hint) or (hint,)  # Optional[int] is of int and None
    kinds = {bool: checks.FLAG, int: checks.WHOLE, float: checks.NUMBER, str: checks.TEXT}
    return Option(kinds.get(hints[0], checks.LIST), null=type(None) in hints)


RUN_OPTIONS = {
    name: _run_option(name, hint) for name, hint in get_type_hints(RunOptions).items()
    if name in HELP_TEXTS or name in MODULE_LISTS
}


def split_words(words: list[str]) -> tuple[Path, list[tuple[str, list[str]]]]:
    """The experiment file of a command line, and each option with the words that follow it.

    Example
    -------
    >>> split_words(["a.yaml", "--lr", "0.1", "--jit", "--seed=3"])[1]
    [('lr', ['0.1']), ('jit', []), ('seed', ['3'])]
    """
    if not words or words[0].startswith("-"):
        raise UserError(f"{WHERE}: name an experiment file first: train.py FILE [--option value]")
    given = []
    for word in words[1:]:
        word = "--help" if word == "-h" else word
        if word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            given.append((name, [text] if equals else []))
        elif given:
            given[-1][1].append(word)
        else:
            raise UserError(f"{WHERE}: {word!r} follows the experiment file; write --option value")
    return Path(words[0]), given


def read_options(
    given: Iterable[tuple[str, list[str]]], tree: Mapping, separator_options: Mapping
) -> tuple[dict, dict, dict]:
    """Check the options that `split_words` gives, and read their values; the later of two wins.

    Returns values for the experiment file, for the separator file and for SpeechBrain. An option
    that the experiment file shares with SpeechBrain is for both.
    """
    experiment, separator, run = {}, {}, {}
    known = [*tree, *separator_options, *RUN_OPTIONS]
    for name, texts in given:
        if name == SEPARATOR:
            if names_file(texts):
                continue
            separator.update(_read_mapping(texts, separator_options))
            continue
        check_known(name, known, WHERE)
        default = tree.get(name, separator_options.get(name))
        if _is_built(default):
            raise UserError(f"{WHERE}: {name!r} is built by the file; change its options, or the "
                            "file")
        option = RUN_OPTIONS.get(name) or find_option(name, plain(default))
        if option.kind == checks.PATH:
            option = replace(option, null=False)  # here null is the name of a folder
        try:
            value = _read_value(name, texts, option)
        except ValueError as error:
            raise UserError(f"{WHERE}: {error}") from error
        if name in RUN_OPTIONS:
            run[name] = value
        if name in tree:
            experiment[name] = value
        elif name in separator_options:
            separator[name] = value
    return experiment, separator, run


def names_file(texts: list[str]) -> bool:
    """True if the words after `--separator` name a separator, and are no options of it."""
    return len(texts) == 1 and not texts[0].lstrip().startswith("{")


def run_options(file: Path, given: Mapping, tree: Mapping) -> RunOptions:
    """SpeechBrain's options, given on the command line or in the experiment file.

    UserError if they exclude each other, or the device cannot be used or lacks the precision.
    """
    defaults = {field.name: field.default for field in fields(RunOptions)}
    values = {name: plain(tree.get(name, default)) for name, default in defaults.items()} | given
    if values["device"] is not None:
        checked_device(values["device"])
    device = torch.device(values["device"] or infer_device()).type
    half = [name for name in ("precision", "eval_precision") if values[name] == "fp16"]
    half += ["auto_mix_prec"] if values["auto_mix_prec"] else []
    if half and device == "cpu":
        raise UserError(f"{half[0]}: a CPU does not compute in fp16; take fp32 or bf16")
    if values["data_parallel_backend"] and (not torch.cuda.is_available() or "RANK" in os.environ):
        raise UserError("--data_parallel_backend is for GPUs and a single process; leave it out, "
                        "or use torchrun alone")
    if values["ckpt_interval_minutes"] > 0 and values["ckpt_interval_steps"] > 0:
        raise UserError("ckpt_interval_minutes and ckpt_interval_steps exclude each other; set one "
                        "of them to 0")
    for name in MODULE_LISTS:
        for module in values[name] or ():
            check_known(module, tree["modules"], name)
    for name, reason in NOT_COMPILED.items():
        if values[name] != defaults[name]:
            raise UserError(f"--{name}: {reason}; leave it out")
    if values["compile"] and (device != "cuda" or values["data_parallel_backend"]):
        raise UserError("--compile is for GPUs (a CPU gains nothing), and for several of them with "
                        "torchrun, not with --data_parallel_backend; leave it out")
    given = {"param_file": str(file), **given}
    if device == "cpu" or not torch.cuda.is_available():
        given.setdefault("distributed_backend", "gloo")  # nccl, the default, needs GPUs
    return RunOptions.from_dictionary(given)


def usage(trees: Mapping[str, Mapping]) -> str:
    """The help text: SpeechBrain's options, then those of files, with the files' comments."""
    lines = [USAGE]
    lines += [f"  --{name}: {text}" for name, text in HELP.items()
              if name in RUN_OPTIONS and name not in NOT_COMPILED]
    for title, tree in trees.items():
        lines.append(f"\n{title}:")
        for name, node in tree.items():
            if not _is_built(node):
                token = (tree.ca.items.get(name) or [None] * 3)[2]  # the comment behind a value
                comment = token.value.splitlines()[0].lstrip("# ") if token else ""
                lines.append(f"  --{name} {getattr(node, 'value', node)}".ljust(36) + comment)
    return "\n".join(line.rstrip() for line in lines)


def _is_built(node):
    """True if a node is not a value that the command line can replace."""
    return isinstance(node, dict) or tag_of(node) not in ("", "!ref", "!tuple", "!PLACEHOLDER")


def _read_value(name, texts, option):
    """The value of one option; ValueError if it does not take these words."""
    if name in RUN_OPTIONS and option.kind == checks.FLAG:
        if texts:
            raise ValueError(f"--{name} takes no value, but {texts[0]!r} follows; give --{name} "
                             "alone, or leave it out")
        return True
    if not texts:
        raise ValueError(f"--{name} has no value: it must be {option}")
    if name in MODULE_LISTS:
        return texts
    text, *more = texts
    if more and text.startswith("[") and option.kind not in (checks.PATH, checks.TEXT):
        return parse_value(name, " ".join(texts), option)  # a list that was written with spaces
    if more:
        raise ValueError(f"{more[0]!r} follows {text!r}, the value of --{name}; write --option "
                         "value, with quotes around a value that holds spaces")
    return parse_value(name, text, option)


def _read_mapping(texts, separator_options):
    """Options of the separator, as in `--separator '{num_slots: 4}'`."""
    where = f"{WHERE}, --{SEPARATOR}"
    try:
        options = YAML(typ="safe").load(" ".join(texts))
    except (YAMLError, ValueError) as error:
        raise UserError(f"{where}: not valid YAML: {one_line(error)}") from error
    if not isinstance(options, dict):
        raise UserError(f"{where}: name a separator, a file, or options: '{{num_slots: 4}}'")
    for name, value in options.items():
        check_known(name, separator_options, where)
        try:
            find_option(name, separator_options[name]).check(name, value)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    return options
