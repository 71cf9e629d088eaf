"""Whatever loads a bundle refuses one that could run code, unless it is trusted."""

import argparse
import io
import json
import re
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest

from papez_lobes.cli.main import COMMANDS, main
from papez_lobes.config.experiments import load_experiment
from papez_lobes.config.separator_files import build_modules
from papez_lobes.errors import UserError
from papez_lobes.inference.warm_start import start_from
from tests.evaluation.cases import write_case
from tests.recipe_runs import RECIPE
from tests.tiny import separator_path, tiny_hparams, write_tiny_bundle

BUNDLELESS = {"list", "mix", "convert"}  # commands that load no bundle of the user's
LOADING = sorted(COMMANDS.keys() - BUNDLELESS)  # a new one is tried here unasked


@pytest.fixture
def stranger(tmp_path):
    """A bundle that makes the folder `ran` beside it when it is built."""
    bundle = write_tiny_bundle(tmp_path / "stranger")
    path = bundle / "hyperparams.yaml"
    path.write_text(f"{path.read_text()}\nmark: !apply:os.makedirs\n    name: {tmp_path / 'ran'}\n"
                    "    exist_ok: True\n")
    return bundle


@pytest.fixture
def words(stranger, tmp_path, monkeypatch):
    """A command line of each command, which loads the stranger's bundle."""
    manifest = write_case(tmp_path, np.random.default_rng(0).normal(0, 0.1, (2400, 2)))
    raw = np.zeros(2400, np.int16).tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    monkeypatch.setitem(sys.modules, "gradio", MagicMock())  # a page that ends at once
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the page's, which would stay
    graph = MagicMock(SerializeToString=lambda: b"")  # tests/integration makes real ones, in 15 s
    monkeypatch.setattr("papez_lobes.export.onnx_file.to_onnx", lambda *_: graph)
    out = tmp_path / "out"
    return {
        "separate": [tmp_path / "mix.wav", "-n", stranger, "-o", out, "-d", "cpu"],
        "live": ["-", "-n", stranger, "-o", out, "-d", "cpu"],
        "serve": ["-n", stranger, "-d", "cpu", "--port", "0"],
        "evaluate": [stranger, manifest, "--measures", "--out", out, "--jobs", "1"],
        "export": [stranger, tmp_path / "it.onnx"],
        "average": [stranger, stranger, "--out", out],
        "bench": [stranger, "--seconds", "0.1", "--rounds", "1", "--threads", "1", "--no-memory"],
    }


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("command", LOADING)
def test_a_command_loads_what_may_run_code_only_with_trust(words, tmp_path, capsys, command):
    argv = [command, *map(str, words[command])]
    assert main(argv) == 2
    error = "".join(capsys.readouterr())  # bench goes on with others, and names it in its report
    assert "stranger/hyperparams.yaml: mark is '!apply:os.makedirs', which could run" in error
    assert "--trust" in error and not (tmp_path / "ran").exists()
    assert main([*argv, "--trust"]) == 0
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("command", LOADING)
def test_the_help_says_what_trust_means(command):
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_arguments(parser)
    help_text = " ".join(parser.format_help().split())
    assert "--trust also load bundles whose hyperparams.yaml can run any code" in help_text


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("hidden", [
    "x: !apply:os.mkdir [FILE]", "x: (!!python/object/apply:os.mkdir [FILE])",
    "a: '!!python/object/apply:os.mkdir [FILE]'\nx: !tuple '(<a>)'\ny: !ref (<a>, 1)",
])
def test_a_foreign_model_goes_through_the_same_check(words, stranger, tmp_path, capsys, hidden):
    """What is only text for the check never reaches HyperPyYAML, which might run it."""
    path = stranger / "hyperparams.yaml"
    text = path.read_text().partition("\nmark:")[0]
    text = re.sub(r"\bMaskNet\b", "Masks", text)  # no node of ours by its name
    path.write_text(f"{text}\n{hidden.replace('FILE', str(tmp_path / 'ran'))}\n")
    status = main(["evaluate", *map(str, words["evaluate"])])
    assert status == (0 if hidden.startswith("a: ") else 2)
    assert not (tmp_path / "ran").exists()
    assert len(capsys.readouterr().err.splitlines()) == (status == 2)


def test_a_training_begins_with_a_bundle_that_may_run_code_only_where_it_is_trusted(
    stranger, tmp_path
):
    modules = build_modules(stranger / "hyperparams.yaml", trust=True)
    (tmp_path / "ran").rmdir()
    with pytest.raises(UserError, match="could run code"):
        start_from(stranger, modules, 2)
    assert not (tmp_path / "ran").exists()
    start_from(stranger, modules, 2, trust=True)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("file", sorted(RECIPE.parents[1].glob("*/*/hparams/*.yaml")), ids=str)
def test_every_experiment_has_the_option(file, tmp_path):
    sizes = tiny_hparams(separator_path({"demo": "papez_small"}.get(file.stem, file.stem)))
    words = [str(file), "--data_folder", "x", "--output_folder", str(tmp_path / "out"),
             "--separator", json.dumps(sizes)]
    assert load_experiment(words).hparams["trust_bundle"] is False
    assert load_experiment([*words, "--trust_bundle", "True"]).hparams["trust_bundle"] is True
