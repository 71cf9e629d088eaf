"""The command line: each word reaches the option that it was written for, as what that takes."""

from pathlib import Path

import pytest
import torch

from papez_lobes.config.checks import (
    FLAG,
    NUMBER,
    OPTIONS,
    PATH,
    PATH_ENDINGS,
    TEXT,
    WHOLE,
    find_option,
    parse_value,
)
from papez_lobes.config.command_line import NOT_COMPILED, RUN_OPTIONS, split_words
from papez_lobes.config.experiments import NEEDED, load_experiment
from papez_lobes.config.yaml_files import read_tree, tag_of
from papez_lobes.errors import UserError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(ROOT.glob("recipes/*/*/hparams/*.yaml"))
TREES = [read_tree(path) for path in EXPERIMENTS]
SETTABLE = sorted({
    name for tree in TREES for name, node in tree.items()
    if not isinstance(node, dict) and tag_of(node) in ("", "!ref", "!PLACEHOLDER")
})
PATHS = [name for name in SETTABLE if find_option(name).kind == PATH]
FLAGS = sorted(name for name, option in RUN_OPTIONS.items() if option.kind == FLAG)
# what YAML, HyperPyYAML or a command line might take for something else than a path
TEXTS = [
    "speech #new", "1234", "2024-01-01", "null", "True", "1e-5", "a: b", "[x]", "{x: 1}", "*x",
    "&x", "!ref x", "<seed>", "<nothing>", "a=b", "- x", "'q'", '"q"', "(a)", "(1e-5)", "1/0",
    "9**9**9", "a\tb", "a\nb", "", " ", " a ", "ü", "12:30", "<<", "|", "%x", "a b" * 100, "a~",
    "\\n", "...",
]


@pytest.fixture
def experiment(tmp_path):
    """A small experiment file with every path option, which builds nothing of size."""
    (tmp_path / "separator.yaml").write_text("num_spks: 2\nrate: 8000\nwidth: 4\n")
    lines = {name: "null" for name in (*NEEDED, "modules")} | {
        "num_spks": "2", "sample_rate": "8000", "seed": "1", "lr": "0.1", "ponder_cost": "0",
        "warmup_steps": "0", "num_workers": "0", "skip_prep": "False", "tensorboard": "False",
        "save_audio": "1", "modules": "{masknet: 1}",
    } | dict.fromkeys(PATHS, "x") | {
        "separator": "!include:separator.yaml", "nested": "{below: !ref <output_folder>/sub}",
        "list": "[!ref <data_folder>]", "same": "!ref <output_folder>",
    }
    file = tmp_path / "experiment.yaml"
    file.write_text("\n".join(f"{name}: {value}" for name, value in lines.items()))

    def load(*words):
        return load_experiment([str(file), *words])

    load.file = file
    return load


def test_every_option_of_every_experiment_is_classified():
    assert len(EXPERIMENTS) > 3 and len(SETTABLE) > 30
    for name in SETTABLE:
        assert name in OPTIONS or name in RUN_OPTIONS or name.endswith(PATH_ENDINGS), name
    assert set(PATHS) >= {"data_folder", "speech_folder", "output_folder", "save_folder",
                          "train_log", "start_from", "branch_from"}


def test_required_paths_are_those_that_no_experiment_leaves_out():
    empty = {name for tree in TREES for name in PATHS if tree.get(name, "") is None}
    assert {name for name in PATHS if find_option(name).null} == empty


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_a_path_is_the_text_that_was_given(experiment, text):
    words = [word for name in PATHS for word in (f"--{name}", text)]
    hparams = experiment(*words).hparams
    for name in PATHS:
        assert hparams[name] == text, name
    assert hparams["nested"] == {"below": f"{text}/sub"}
    assert hparams["list"] == [text] and hparams["same"] == text


def test_a_path_may_begin_with_dashes_or_hold_equals_signs(experiment):
    hparams = experiment("--data_folder=--lr=3", "--start_from", "a=b=c").hparams
    assert (hparams["data_folder"], hparams["start_from"]) == ("--lr=3", "a=b=c")
    assert hparams["lr"] == 0.1


@pytest.mark.parametrize("name", PATHS)
def test_an_empty_path_is_refused(experiment, name):
    for words in ([f"--{name}", ""], [f"--{name}="], [f"--{name}"]):
        with pytest.raises(UserError, match=rf"{name} .*: it must be a path$"):
            experiment(*words)
    text = experiment.file.read_text()
    experiment.file.write_text(text.replace(f"{name}: x", f"{name}: ''"))
    with pytest.raises(UserError, match=f"experiment.yaml: {name} is '': it must be a path"):
        experiment()


def test_a_home_folder_is_found_in_every_path(experiment, monkeypatch):
    monkeypatch.setenv("HOME", "/my home")
    hparams = experiment(*(word for name in PATHS for word in (f"--{name}", "~/x"))).hparams
    assert {hparams[name] for name in PATHS} == {"/my home/x"}
    assert hparams["nested"] == {"below": "/my home/x/sub"}
    text = experiment.file.read_text().replace(": x\n", ": ~/y\n")
    text = text.replace("train_log: ~/y", "train_log: !ref ~/<seed>/log")
    experiment.file.write_text(text)
    hparams = experiment().hparams
    assert hparams["train_log"] == "/my home/1/log"
    assert {hparams[name] for name in PATHS if name != "train_log"} == {"/my home/y"}
    assert hparams["nested"] == {"below": "/my home/y/sub"}


@pytest.mark.parametrize("name", sorted(
    name for name, option in OPTIONS.items() if option.kind == TEXT and not option.choices))
def test_a_text_is_what_was_given(name):
    for text in TEXTS:
        assert parse_value(name, text, find_option(name)) == text


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_of_speechbrain_takes_no_value(experiment, name):
    needs_gpu = name in ("data_parallel_backend", "auto_mix_prec", "compile")
    refused = name in NOT_COMPILED or (needs_gpu and not torch.cuda.is_available())
    given = () if refused else (f"--{name}",)
    loaded = experiment("--data_folder", "/data", *given, "--lr", "1")
    assert loaded.run_opts[name] is bool(given)
    assert loaded.hparams["data_folder"] == "/data"
    for words in ([f"--{name}", "True"], [f"--{name}", "False"], [f"--{name}=False"]):
        with pytest.raises(UserError, match=f"--{name} takes no value, but '(True|False)' follows"):
            experiment("--output_folder", "x", *words)


@pytest.mark.parametrize("name", sorted(n for n, option in OPTIONS.items() if option.kind == FLAG))
def test_other_flags_take_true_and_false_in_any_case(name):
    for text in ("true", "True", "TRUE"):
        assert parse_value(name, text, find_option(name)) is True
    for text in ("false", "False", "FALSE"):
        assert parse_value(name, text, find_option(name)) is False
    for text in ("yes", "no", "1", "", "null"):
        with pytest.raises(ValueError, match=f"{name} is '{text}': it must be True or False"):
            parse_value(name, text, find_option(name))


@pytest.mark.parametrize("words", [
    ["--compile", "--device", "cpu"], *([f"--{name}"] for name in NOT_COMPILED)])
def test_compiling_is_refused_before_anything_is_made(experiment, tmp_path, words):
    before = sorted(tmp_path.rglob("*"))
    values = {"keys": ["masknet"], "mode": ["max-autotune"]}
    words = [*words, *values.get(words[-1].rpartition("_")[2], [])]
    with pytest.raises(UserError, match=f"{words[0]}(:| is for GPUs).*leave it out"):
        experiment("--output_folder", str(tmp_path / "out"), *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", sorted(
    set(RUN_OPTIONS) - set(FLAGS) - set(NOT_COMPILED)))
def test_every_option_of_speechbrain_that_takes_a_value_gets_its_kind(experiment, name):
    option = RUN_OPTIONS[name]
    samples = {WHOLE: "3", NUMBER: "0.25", TEXT: "cpu", PATH: "a #b"}
    text = option.choices[-1] if option.choices else samples[option.kind]
    if name in ("precision", "eval_precision"):
        text = "bf16"
    value = getattr(experiment(f"--{name}", text).run_opts, name)
    kinds = {WHOLE: int, NUMBER: float, TEXT: str, PATH: str}
    assert type(value) is kinds[option.kind] and value == type(value)(text)
    if option.kind in (WHOLE, NUMBER) or option.choices:
        with pytest.raises(UserError, match=f"{name} is 'abc': it must be {option}"):
            experiment(f"--{name}", "abc")


@pytest.mark.parametrize("words, message", [
    ([], "name an experiment file first"),
    (["--lr", "1"], "name an experiment file first"),
    (["a.yaml", "b.yaml"], "'b.yaml' follows the experiment file"),
])
def test_a_command_line_begins_with_a_file(words, message):
    with pytest.raises(UserError, match=message):
        split_words(words)


def test_data_parallel_needs_a_gpu(experiment, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--data_parallel_backend is for GPUs"):
        experiment("--data_parallel_backend")


def test_gloo_is_taken_where_there_is_no_gpu(experiment, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert experiment().run_opts.distributed_backend == "gloo"
    assert experiment("--device", "cpu").run_opts.distributed_backend == "gloo"
    assert "distributed_backend" in experiment().run_opts.overridden_args
    assert experiment("--distributed_backend", "mpi").run_opts.distributed_backend == "mpi"
