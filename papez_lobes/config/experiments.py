"""Experiments: from a command line to the objects that train, with every option checked on the way.

An experiment file describes the training. Its `separator:` node includes the separator file, which
describes what is trained. All options of both files can be given on the command line. HyperPyYAML
takes an unknown option of an included file in silence, so names are checked here.
"""

import datetime
import inspect
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from speechbrain.utils.run_opts import RunOptions
from torch.utils.data import DataLoader

from papez_lobes.config import command_line
from papez_lobes.config.checks import PATH, check_known, find_option
from papez_lobes.config.command_line import SEPARATOR, usage
from papez_lobes.config.separator_files import hyperparameters_of, separator_file, set_options
from papez_lobes.config.yaml_files import build, dump, fill_in, plain, read_tree, resolve, tag_of
from papez_lobes.errors import UserError
from papez_lobes.resources import resource_folder

INCLUDE = "!include:"
NEEDED = (
    "data_folder", "num_spks", "sample_rate", "seed", "output_folder", "save_folder", "modules",
    "optimizer", "lr", "lr_scheduler", "epoch_counter", "checkpointer", "train_logger", "loss",
    "train_dataloader_opts", "eval_dataloader_opts", "segment_seconds", "ponder_cost",
    "average", "start_from", "branch_from", "step_schedule", "loss_threshold", "max_batch_seconds",
    "num_workers", "prepare", "skip_prep", "speech_folder", "train_set", "train_log", "train_curve",
    "tensorboard", "save_audio",
)
LOADER_OPTIONS = {*inspect.signature(DataLoader).parameters, "looped_nominal_epoch"} - {"dataset"}


@dataclass
class Experiment:
    """A loaded experiment.

    `file` and `separator_file` are its YAML files, and `hparams` is what HyperPyYAML built, from
    the nodes of `tree`, which refer to no other file. `run_opts` are SpeechBrain's own options
    (--device, --precision, --test_only, ...). `hyperparameters` are those of the separator: name to
    plain value.
    """

    file: Path
    separator_file: Path
    hparams: dict = field(repr=False)
    run_opts: RunOptions = field(repr=False)
    hyperparameters: dict
    tree: dict = field(repr=False)

    def save(self) -> None:
        """Write `hyperparams.yaml` to the output folder, which must exist."""
        head = f"# Generated {datetime.date.today()} from:\n# {self.file.absolute()}\n"
        path = Path(self.hparams["output_folder"], "hyperparams.yaml")
        text = dump(resolve(self.tree, self.file))
        path.write_text(f"{head}# yamllint disable\n{text}", encoding="utf-8")


def load_experiment(argv: list[str] | None = None) -> Experiment:
    """Parse a command line and build the experiment.

    `argv` is `FILE [--option value]...`, by default `sys.argv[1:]`. `--separator NAME_OR_FILE`
    takes another separator file, and `--separator '{name: value}'` sets options of it.

    UserError if a file is missing or broken, an option is unknown or takes another value, a
    placeholder has no value, or values do not fit together.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] in (["-h"], ["--help"]):
        print(usage({}))
        sys.exit()
    file, given = command_line.split_words(argv)
    tree = read_tree(file)
    included = _included(tree, file)
    named = [texts[0] for name, texts in given
             if name == SEPARATOR and command_line.names_file(texts)]
    path = separator_file(os.path.expanduser(named[-1])) if named else included
    parts = read_tree(path)
    if any(name == "help" for name, _ in given):
        print(usage({str(file): tree, str(path): parts}))
        sys.exit()
    defaults = hyperparameters_of(parts)
    experiment, separator, run = command_line.read_options(given, tree, defaults)
    if named and tree.get("experiment_name") == included.stem:  # it is named after its separator
        experiment.setdefault("experiment_name", path.stem)

    _expand_paths(tree)
    tree.update(experiment)
    fill_in(tree)
    node = tree[SEPARATOR] if isinstance(tree[SEPARATOR], dict) else {}
    for name in node:
        check_known(name, defaults, f"{file}, `{SEPARATOR}` ({path.name})")
    set_options(parts, path, {**node, **separator})
    tree[SEPARATOR] = resolve(parts, path)
    _check(tree, file)
    return Experiment(
        file=file,
        separator_file=path,
        run_opts=command_line.run_options(file, run, tree),  # before anything is built
        hparams=build(tree, file),
        hyperparameters={name: plain(parts[name]) for name in defaults},
        tree=tree,
    )


def _included(tree, file):
    """The separator file that an experiment includes.

    The project's experiments include `../../../../hparams/NAME.yaml`. Where a copy of a recipe has
    no such file, it is the file of that name that comes with the package.
    """
    tag = tag_of(tree.get(SEPARATOR))
    if not tag.startswith(INCLUDE):
        raise UserError(
            f"{file}: has no `{SEPARATOR}: {INCLUDE}FILE` node; it is not an experiment file "
            "(a separator file from the top-level hparams/ is included by one, not run)"
        )
    path = (file.parent / tag.removeprefix(INCLUDE)).resolve()
    installed = resource_folder("hparams") / path.name
    if path.parent.name == "hparams" and not path.exists() and installed.is_file():
        return installed  # the recipe has been copied out of the checkout
    return path


def _expand_paths(tree):
    """Replace a leading ~ in the paths of an experiment file."""
    for name, node in tree.items():
        if find_option(name).kind == PATH:
            if isinstance(node, str):
                tree[name] = os.path.expanduser(node)
            elif tag_of(node) == "!ref":
                node.value = os.path.expanduser(node.value)


def _check(tree, file):
    """Refuse an experiment that lacks an option, or in which one is of a wrong value."""
    for name in NEEDED:
        if name not in tree:
            raise UserError(f"{file}: has no option {name!r}; see the experiments of the project")
    for name, node in tree.items():
        option = command_line.RUN_OPTIONS.get(name) or find_option(name)
        if tag_of(node) == "!PLACEHOLDER":
            raise UserError(f"{file}: {name} has no value; give --{name}: it must be {option}")
        if not tag_of(node):  # what is built has the kind that its class gives it
            try:
                option.check(name, plain(node))
            except ValueError as error:
                raise UserError(f"{file}: {error}") from error
    for name in ("train_dataloader_opts", "eval_dataloader_opts"):
        for key in tree[name] if isinstance(tree[name], dict) else ():
            check_known(key, LOADER_OPTIONS, f"{file}, `{name}`")
